// Which processors this thread may run on.
#ifndef LOCKSTEP_BASE_PROCESSORS_H_
#define LOCKSTEP_BASE_PROCESSORS_H_

#include <sched.h>

#include <vector>

namespace lockstep {

/// Logical CPUs of the calling thread's affinity, ascending.
inline std::vector<int> AllowedCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof(set), &set);
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

}  // namespace lockstep

#endif  // LOCKSTEP_BASE_PROCESSORS_H_
