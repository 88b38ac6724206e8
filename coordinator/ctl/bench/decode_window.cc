// A sweep over first and last tokens; see decode_window.h.
#include "coordinator/ctl/bench/decode_window.h"

#include <algorithm>
#include <set>
#include <tuple>

namespace lockstep::coordinator {
namespace {

struct Edge {
  int64_t at_ns;
  bool begins;
  const RequestRecord* request;
};

/// First and last tokens of all requests that have both, in order of time. Where one request ends
/// as another begins, the end comes first.
std::vector<Edge> SortedEdges(const std::vector<RequestRecord>& records) {
  std::vector<Edge> edges;
  for (const RequestRecord& record : records) {
    if (record.arrivals.size() < 2) continue;
    edges.push_back({record.arrivals.front().at_ns, true, &record});
    edges.push_back({record.arrivals.back().at_ns, false, &record});
  }
  std::stable_sort(edges.begin(), edges.end(), [](const Edge& a, const Edge& b) {
    return std::tie(a.at_ns, a.begins) < std::tie(b.at_ns, b.begins);
  });
  return edges;
}

/// Tokens a second of one request by its messages from begin_ns to end_ns, both included.
std::optional<double> Rate(const RequestRecord& request, int64_t begin_ns, int64_t end_ns) {
  auto first = std::lower_bound(
      request.arrivals.begin(), request.arrivals.end(), begin_ns,
      [](const TokenArrival& arrival, int64_t at_ns) { return arrival.at_ns < at_ns; });
  auto end = std::upper_bound(
      first, request.arrivals.end(), end_ns,
      [](int64_t at_ns, const TokenArrival& arrival) { return at_ns < arrival.at_ns; });
  if (end - first < 2) return std::nullopt;
  const int64_t span_ns = (end - 1)->at_ns - first->at_ns;
  if (span_ns <= 0) return std::nullopt;
  int64_t tokens = 0;
  for (auto arrival = first + 1; arrival != end; ++arrival) tokens += arrival->tokens;
  return static_cast<double>(tokens) / (static_cast<double>(span_ns) * 1e-9);
}

std::optional<double> SumOfRates(const std::set<const RequestRecord*>& requests, int64_t begin_ns,
                                 int64_t end_ns) {
  double sum = 0;
  for (const RequestRecord* request : requests) {
    const std::optional<double> rate = Rate(*request, begin_ns, end_ns);
    if (!rate) return std::nullopt;
    sum += *rate;
  }
  return sum;
}

}  // namespace

std::optional<DecodeWindow> FindDecodeWindow(const std::vector<RequestRecord>& records,
                                             int64_t requests) {
  DecodeWindow window{.requests = requests};
  double tokens = 0;
  std::set<const RequestRecord*> decoding;
  int64_t since_ns = 0;
  for (const Edge& edge : SortedEdges(records)) {
    if (static_cast<int64_t>(decoding.size()) == requests) {
      if (std::optional<double> rate = SumOfRates(decoding, since_ns, edge.at_ns)) {
        const double seconds = static_cast<double>(edge.at_ns - since_ns) * 1e-9;
        window.seconds += seconds;
        tokens += *rate * seconds;
      }
    }
    if (edge.begins) {
      decoding.insert(edge.request);
    } else {
      decoding.erase(edge.request);
    }
    since_ns = edge.at_ns;
  }
  if (window.seconds == 0) return std::nullopt;
  window.tokens_per_second = tokens / window.seconds;
  return window;
}

}  // namespace lockstep::coordinator
