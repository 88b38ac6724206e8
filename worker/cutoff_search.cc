// A logit's bits, made to order as an unsigned number, are its key; each round narrows the key of
// the cutoff by some bits.
#include "worker/cutoff_search.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "base/status_macros.h"
#include "worker/scan_kernels.h"

namespace lockstep::worker {
namespace {

constexpr int64_t kBins = 2048;
constexpr size_t kChunk = 1024;
constexpr size_t kLanes = 4;
// A round looks at the bits from `shift` on of the keys that agree with the prefix above them.
constexpr std::array<int, 3> kShifts = {21, 10, 0};
constexpr int kLastBits = 10;

constexpr int BitsOf(int shift) { return shift == 0 ? kLastBits : 11; }

struct Bin {
  double mass = 0;
  int64_t count = 0;
};

struct Search {
  CutoffQuery query;
  std::vector<float> inside;  // of the slice, those that agree with the prefix of the last round
  uint64_t prefix = 0;        // the upper bits of the cutoff's key, found so far
  Bin above;                  // of all keys beyond the prefix
  bool keeps_all = false;
  int64_t ties = 0;  // to keep of those that equal the cutoff; found last
};

double WeightOf(const CutoffQuery& query, const Bin& bin) {
  return query.weight == CutoffQuery::Weight::kMass ? bin.mass : static_cast<double>(bin.count);
}

uint32_t KeyOf(float logit) {
  // The sum makes a positive zero of a negative one: they are the same logit.
  const uint32_t bits = std::bit_cast<uint32_t>(logit + 0.0f);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}

float LogitOf(uint32_t key) { return std::bit_cast<float>(key >> 31 ? key & 0x7fffffffu : ~key); }

// Bins this rank's logits within the prefix. Each round leaves fewer of them.
void FillBins(Search& search, int shift, std::span<Bin> bins) {
  const int prefix_shift = shift + BitsOf(shift);
  std::span<const float> inside = search.query.logits;
  if (shift != kShifts[0]) {
    if (shift == kShifts[1]) search.inside.assign(inside.begin(), inside.end());
    std::erase_if(search.inside,
                  [&](float logit) { return KeyOf(logit) >> prefix_shift != search.prefix; });
    inside = search.inside;
  }
  const uint32_t bin_mask = (1u << BitsOf(shift)) - 1;
  // Neighbours mostly fall into the same few bins, and an addition must not wait for the one
  // before.
  std::vector<Bin> lanes(kLanes * kBins);
  std::array<double, kChunk> exps;
  while (!inside.empty()) {
    const std::span<const float> chunk = inside.first(std::min(kChunk, inside.size()));
    inside = inside.subspan(chunk.size());
    ExpOf(chunk, search.query.max, search.query.inverse_temperature, exps);
    for (size_t i = 0; i < chunk.size(); ++i) {
      Bin& bin = lanes[i % kLanes * kBins + (KeyOf(chunk[i]) >> shift & bin_mask)];
      bin.mass += exps[i];
      ++bin.count;
    }
  }
  for (size_t i = 0; i < lanes.size(); ++i) {
    bins[i % kBins].mass += lanes[i].mass;
    bins[i % kBins].count += lanes[i].count;
  }
}

// Bin `bin` of search `index`, added up over the ranks in their order.
Bin SumOverRanks(std::span<const Bin> all, size_t searches, size_t index, int64_t bin) {
  Bin sum;
  for (size_t i = index * kBins + bin; i < all.size(); i += searches * kBins) {
    sum.mass += all[i].mass;
    sum.count += all[i].count;
  }
  return sum;
}

// Walks down from the most probable bin to the one in which the target is reached; `found` becomes
// its contents.
void Narrow(Search& search, std::span<const Bin> all, size_t searches, size_t index, int shift,
            Bin& found) {
  Bin above = search.above;
  int64_t lowest = 0;
  bool reached = false;
  for (int64_t bin = kBins - 1; bin >= 0 && !reached; --bin) {
    const Bin here = SumOverRanks(all, searches, index, bin);
    if (here.count == 0) continue;
    lowest = bin;
    found = here;
    search.above = above;
    above.mass += here.mass;
    above.count += here.count;
    reached = WeightOf(search.query, above) >= search.query.target;
  }
  // In a later round rounding may leave the target a hair beyond the bin that was found to hold it.
  search.keeps_all = !reached && shift == kShifts[0];
  if (search.keeps_all) search.above = above;
  search.prefix = search.prefix << BitsOf(shift) | lowest;
}

void SetTies(Search& search, const Bin& equal) {
  const double each = WeightOf(search.query, equal) / static_cast<double>(equal.count);
  const double missing = search.query.target - WeightOf(search.query, search.above);
  const double ties = each > 0 ? std::ceil(missing / each) : 1;
  search.ties = static_cast<int64_t>(std::clamp<double>(ties, 1, equal.count));
  search.above.mass += equal.mass / static_cast<double>(equal.count) * search.ties;
}

// The id of the tie that is kept last, if it lies in this rank's slice; else -1.
int32_t LastTie(const Search& search, std::span<const int64_t> ties_by_rank, int rank,
                int32_t first_id) {
  int64_t wanted = search.ties;
  for (int r = 0; r < rank; ++r) wanted -= ties_by_rank[r];
  if (search.keeps_all || wanted <= 0 || wanted > ties_by_rank[rank]) return -1;
  const float logit = LogitOf(static_cast<uint32_t>(search.prefix));
  for (size_t i = 0;; ++i) {
    if (search.query.logits[i] == logit && --wanted == 0) {
      return first_id + static_cast<int32_t>(i);
    }
  }
}

CutoffAnswer AnswerOf(const Search& search, int32_t last_tie) {
  if (search.keeps_all) return {{}, search.above.mass};
  return {{LogitOf(static_cast<uint32_t>(search.prefix)), last_tie}, search.above.mass};
}

}  // namespace

absl::StatusOr<std::vector<CutoffAnswer>> FindCutoffs(std::span<const CutoffQuery> queries,
                                                      int32_t first_id, Collective& tensor,
                                                      kernels::ThreadPool& pool) {
  const size_t count = queries.size();
  std::vector<Search> searches;
  for (const CutoffQuery& query : queries) searches.push_back({.query = query});
  std::vector<Bin> found(count);
  std::vector<std::vector<int64_t>> ties(count, std::vector<int64_t>(tensor.size()));
  std::vector<Bin> all(count * kBins * tensor.size());
  for (int shift : kShifts) {
    std::vector<Bin> mine(count * kBins);
    pool.ParallelFor(static_cast<int64_t>(count), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        if (!searches[i].keeps_all) {
          FillBins(searches[i], shift, std::span(mine).subspan(i * kBins, kBins));
        }
      }
    });
    LOCKSTEP_RETURN_IF_ERROR(
        tensor.AllGather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all))));
    for (size_t i = 0; i < count; ++i) {
      if (searches[i].keeps_all) continue;
      Narrow(searches[i], all, count, i, shift, found[i]);
      for (int rank = 0; shift == 0 && rank < tensor.size(); ++rank) {
        const int64_t bin = static_cast<int64_t>(searches[i].prefix & ((1 << kLastBits) - 1));
        ties[i][rank] = all[(rank * count + i) * kBins + bin].count;
      }
    }
  }
  std::vector<int32_t> my_ties;
  for (size_t i = 0; i < count; ++i) {
    if (!searches[i].keeps_all) SetTies(searches[i], found[i]);
    my_ties.push_back(LastTie(searches[i], ties[i], tensor.rank(), first_id));
  }
  std::vector<int32_t> all_ties(count * tensor.size());
  LOCKSTEP_RETURN_IF_ERROR(tensor.AllGather(std::as_bytes(std::span(my_ties)),
                                            std::as_writable_bytes(std::span(all_ties))));
  std::vector<CutoffAnswer> answers;
  for (size_t i = 0; i < count; ++i) {
    int32_t last = -1;
    for (size_t k = i; k < all_ties.size(); k += count) last = std::max(last, all_ties[k]);
    answers.push_back(AnswerOf(searches[i], last));
  }
  return answers;
}

}  // namespace lockstep::worker
