// OneDnnMatrix: the weight in as many slices of output features as the packing pool has members,
// each in the layout that oneDNN likes best. Members execute oneDNN on one thread each, so that no
// OpenMP thread waits anywhere, and a slice's bits depend on its shape alone.
#include "kernels/cpu/onednn_product.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <numeric>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "dnnl.hpp"
#include "glog/logging.h"
#include "kernels/cpu/pack.h"
#include "kernels/cpu/pack_kernels.h"
#include "kernels/cpu/scratch.h"
#include "kernels/memory.h"

// As <omp.h> declares it; gcc's is one that clang-tidy cannot read.
extern "C" void omp_set_num_threads(int threads);

namespace lockstep::kernels::cpu {
namespace {

using dnnl::memory;

// Output features that are reordered at once; the staging of a weight that arrives in pieces.
constexpr int64_t kGranule = 512;
// The layout of weights is asked for with this many rows and then kept for every number of rows.
constexpr int64_t kTypicalRows = 32;
// Slices begin at multiples of this.
constexpr int64_t kSliceUnit = 64;

const dnnl::engine& Engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::stream& Stream() {
  thread_local dnnl::stream stream(Engine());
  return stream;
}

// oneDNN may otherwise start OpenMP's threads beside the pool's.
void UseThisThreadAlone() { omp_set_num_threads(1); }

memory::data_type TypeOf(DType storage) {
  return storage == DType::kF32 ? memory::data_type::f32 : memory::data_type::bf16;
}

struct MatmulKey {
  DType storage;
  int64_t rows;
  int64_t in_features;
  int64_t out_features;
  int64_t x_stride;
  int64_t y_stride;

  bool operator<(const MatmulKey& other) const { return Tie() < other.Tie(); }

 private:
  std::tuple<DType, int64_t, int64_t, int64_t, int64_t, int64_t> Tie() const {
    return {storage, rows, in_features, out_features, x_stride, y_stride};
  }
};

dnnl::matmul::primitive_desc Describe(const MatmulKey& key, const memory::desc& weights) {
  memory::desc x({key.rows, key.in_features}, TypeOf(key.storage), memory::dims{key.x_stride, 1});
  memory::desc y({key.rows, key.out_features}, memory::data_type::f32,
                 memory::dims{key.y_stride, 1});
  return {dnnl::matmul::desc(x, weights, y), Engine()};
}

memory::desc LikedWeights(DType storage, int64_t in_features, int64_t out_features) {
  memory::desc any({in_features, out_features}, TypeOf(storage), memory::format_tag::any);
  MatmulKey key = {storage, kTypicalRows, in_features, out_features, in_features, out_features};
  return Describe(key, any).weights_desc();
}

struct Matmul {
  dnnl::matmul primitive;
  memory::desc x;
  memory::desc weights;
  memory::desc y;
};

// Every product that was ever asked for, shared by all matrices of a shape. Never shrinks: shapes
// are few, and rows are bounded by a step's token budget.
const Matmul& MatmulOf(const MatmulKey& key) {
  static std::mutex mutex;
  static auto& known = *new std::map<MatmulKey, Matmul>();
  std::lock_guard lock(mutex);
  auto found = known.find(key);
  if (found != known.end()) return found->second;
  memory::desc weights = LikedWeights(key.storage, key.in_features, key.out_features);
  dnnl::matmul::primitive_desc description = Describe(key, weights);
  Matmul matmul = {dnnl::matmul(description), description.src_desc(), weights,
                   description.dst_desc()};
  return known.emplace(key, std::move(matmul)).first->second;
}

// Output features per inner block of a layout, or 0 when it is not made of blocks.
int64_t BlockOf(const memory::desc& weights) {
  if (weights.data.format_kind != dnnl_blocked) return 0;
  const dnnl_blocking_desc_t& blocking = weights.data.format_desc.blocking;
  int64_t block = 1;
  for (int i = 0; i < blocking.inner_nblks; ++i) {
    if (blocking.inner_idxs[i] == 1) block *= blocking.inner_blks[i];
  }
  return block;
}

// Output features [begin, begin + size) of the whole weight and their packed memory.
class Slice {
 public:
  static absl::StatusOr<Slice> Create(int64_t begin, int64_t size, int64_t in_features,
                                      DType storage) {
    Slice slice;
    slice.begin_ = begin;
    slice.size_ = size;
    slice.in_features_ = in_features;
    slice.storage_ = storage;
    slice.layout_ = LikedWeights(storage, in_features, size);
    int64_t block = BlockOf(slice.layout_);
    slice.granule_ = block == 0 ? size : std::max(block, kGranule / block * block);
    LOCKSTEP_ASSIGN_OR_RETURN(slice.buffer_, HugeBuffer::Allocate(slice.layout_.get_size()));
    return slice;
  }

  int64_t begin() const { return begin_; }
  int64_t size() const { return size_; }
  int64_t granule() const { return granule_; }
  int64_t bytes() const { return buffer_.mapped_bytes(); }
  void* data() const { return buffer_.data(); }

  // Reorders output features [first, first + count), counted from begin(), out of row-major rows of
  // storage elements. `first` is a multiple of granule(), `count` is granule() or reaches the end.
  void Reorder(int64_t first, int64_t count, void* rows) {
    memory::desc from({in_features_, count}, TypeOf(storage_), memory::dims{1, in_features_});
    memory::desc to = layout_;
    int64_t offset = 0;
    if (count != size_) {
      to = layout_.submemory_desc({in_features_, count}, {0, first});
      // In the pointer instead of the layout, so that one compiled reorder serves all granules.
      offset = std::exchange(to.data.offset0, 0) * static_cast<int64_t>(SizeOf(storage_));
    }
    memory source(from, Engine(), rows);
    memory target(to, Engine(), buffer_.data() + offset);
    dnnl::reorder(source, target).execute(Stream(), source, target);
    Stream().wait();
  }

 private:
  int64_t begin_ = 0;
  int64_t size_ = 0;
  int64_t in_features_ = 0;
  int64_t granule_ = 0;
  DType storage_ = DType::kF32;
  memory::desc layout_;
  HugeBuffer buffer_;
};

// Rows of one granule that have arrived, until all have.
struct Staging {
  HugeBuffer rows;
  int64_t arrived = 0;
};

class OneDnnMatrix : public PackedMatrix {
 public:
  OneDnnMatrix(int64_t out_features, int64_t in_features, DType storage)
      : PackedMatrix(out_features, in_features, storage) {}

  int64_t bytes() const override {
    int64_t bytes = 0;
    for (const Slice& slice : slices_) bytes += slice.bytes();
    return bytes;
  }

  absl::Status PackRows(int64_t out_begin, const WeightRows& rows, ThreadPool& pool) override {
    LOCKSTEP_RETURN_IF_ERROR(CheckFits(rows, out_begin, out_features(), in_features()));
    LOCKSTEP_RETURN_IF_ERROR(MakeSlices(pool.size()));
    std::vector<Piece> pieces = Cut(out_begin, rows.rows);
    std::mutex mutex;
    absl::Status result;
    pool.ParallelFor(std::ssize(pieces), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        absl::Status status = PackPiece(pieces[i], out_begin, rows);
        std::lock_guard lock(mutex);
        result.Update(status);
      }
    });
    return result;
  }

  absl::Status Finish(ThreadPool& /*pool*/) override {
    if (staged_.empty()) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        "a weight of ", out_features(), " output features was not packed whole: ", staged_.size(),
        " parts of it are incomplete"));
  }

  void ReadRow(int64_t /*out_index*/, float* /*dst*/) const override {
    LOG(FATAL) << "ReadRow needs a weight made with ProductKind::kOwn";
  }

  void Product(ConstMatrix x, Matrix y, ThreadPool& pool) const override {
    CHECK_EQ(x.cols, in_features());
    CHECK_EQ(y.cols, out_features());
    CHECK_EQ(x.rows, y.rows);
    if (x.rows == 0) return;
    const void* data = x.data;
    int64_t stride = x.stride;
    if (storage() == DType::kBF16) {
      data = Rounded(x, pool);
      stride = x.cols;
    }
    pool.ParallelFor(std::ssize(slices_), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) ProductOfSlice(slices_[i], data, stride, y);
    });
  }

 private:
  // Part of one granule that a PackRows brings.
  struct Piece {
    size_t slice;
    int64_t granule_first;  // from the slice's begin
    int64_t first;          // absolute output feature
    int64_t rows;
  };

  absl::Status MakeSlices(int members) {
    std::lock_guard lock(mutex_);
    if (!slices_.empty()) return absl::OkStatus();
    int64_t units = (out_features() + kSliceUnit - 1) / kSliceUnit;
    int64_t count = std::min<int64_t>(units, members);
    auto bound = [&](int64_t i) {
      return std::min(out_features(), units * i / count * kSliceUnit);
    };
    try {
      for (int64_t i = 0; i < count; ++i) {
        LOCKSTEP_ASSIGN_OR_RETURN(Slice slice, Slice::Create(bound(i), bound(i + 1) - bound(i),
                                                             in_features(), storage()));
        slices_.push_back(std::move(slice));
      }
    } catch (const dnnl::error& error) {
      slices_.clear();
      return Failed("describing a product", error);
    }
    return absl::OkStatus();
  }

  absl::Status Failed(std::string_view what, const dnnl::error& error) const {
    return absl::InternalError(absl::StrCat("oneDNN failed at ", std::string(what), " of ",
                                            out_features(), " x ", in_features(), " in ",
                                            std::string(Name(storage())), ": ", error.what()));
  }

  std::vector<Piece> Cut(int64_t out_begin, int64_t rows) const {
    std::vector<Piece> pieces;
    for (size_t s = 0; s < slices_.size(); ++s) {
      const Slice& slice = slices_[s];
      for (int64_t g = 0; g < slice.size(); g += slice.granule()) {
        int64_t first = std::max(out_begin, slice.begin() + g);
        int64_t end =
            std::min(out_begin + rows, slice.begin() + std::min(slice.size(), g + slice.granule()));
        if (first < end) pieces.push_back({s, g, first, end - first});
      }
    }
    return pieces;
  }

  absl::Status PackPiece(const Piece& piece, int64_t out_begin, const WeightRows& rows) {
    Slice& slice = slices_[piece.slice];
    int64_t granule_rows = std::min(slice.granule(), slice.size() - piece.granule_first);
    int64_t granule_begin = slice.begin() + piece.granule_first;
    int64_t row_bytes = in_features() * static_cast<int64_t>(SizeOf(storage()));
    LOCKSTEP_ASSIGN_OR_RETURN(Staging * staging,
                              StagingOf(granule_begin, granule_rows * row_bytes));
    for (int64_t r = 0; r < piece.rows; ++r) {
      int64_t source_row = piece.first + r - out_begin;
      std::byte* to = staging->rows.data() + (piece.first + r - granule_begin) * row_bytes;
      const std::byte* from = rows.data + source_row * rows.stride_bytes;
      if (!ConvertRow(from, rows.dtype, rows.cols, storage(), to)) {
        return NotFinite(rows, storage(), source_row);
      }
    }
    if (!Arrived(*staging, piece.rows, granule_rows)) return absl::OkStatus();
    try {
      UseThisThreadAlone();
      slice.Reorder(piece.granule_first, granule_rows, staging->rows.data());
    } catch (const dnnl::error& error) {
      return Failed("reordering a weight", error);
    }
    std::lock_guard lock(mutex_);
    staged_.erase(granule_begin);
    return absl::OkStatus();
  }

  absl::StatusOr<Staging*> StagingOf(int64_t granule_begin, int64_t bytes) {
    std::lock_guard lock(mutex_);
    Staging& staging = staged_[granule_begin];
    if (staging.rows.data() == nullptr) {
      LOCKSTEP_ASSIGN_OR_RETURN(staging.rows, HugeBuffer::Allocate(bytes));
    }
    return &staging;
  }

  // Whether these rows were the last that the granule waited for.
  bool Arrived(Staging& staging, int64_t rows, int64_t wanted) {
    std::lock_guard lock(mutex_);
    staging.arrived += rows;
    return staging.arrived == wanted;
  }

  // x in bf16, contiguous, in the calling thread's scratch.
  const void* Rounded(ConstMatrix x, ThreadPool& pool) const {
    thread_local Scratch scratch;
    auto* rounded = reinterpret_cast<std::byte*>(scratch.Get(x.rows * x.cols * 2));
    pool.ParallelFor(x.rows, std::max<int64_t>(1, 32768 / x.cols), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        ConvertRow(reinterpret_cast<const std::byte*>(x.row(r)), DType::kF32, x.cols, DType::kBF16,
                   rounded + r * x.cols * 2);
      }
    });
    return rounded;
  }

  void ProductOfSlice(const Slice& slice, const void* x, int64_t x_stride, Matrix y) const {
    UseThisThreadAlone();
    try {
      const Matmul& matmul =
          MatmulOf({storage(), y.rows, in_features(), slice.size(), x_stride, y.stride});
      memory xm(matmul.x, Engine(), const_cast<void*>(x));
      memory wm(matmul.weights, Engine(), slice.data());
      memory ym(matmul.y, Engine(), y.data + slice.begin());
      matmul.primitive.execute(Stream(),
                               {{DNNL_ARG_SRC, xm}, {DNNL_ARG_WEIGHTS, wm}, {DNNL_ARG_DST, ym}});
      Stream().wait();
    } catch (const dnnl::error& error) {
      LOG(FATAL) << Failed("a product", error);
    }
  }

  std::vector<Slice> slices_;
  std::mutex mutex_;
  std::map<int64_t, Staging> staged_;  // by the granule's first output feature
};

}  // namespace

absl::StatusOr<std::unique_ptr<PackedMatrix>> CreateOneDnnMatrix(int64_t out_features,
                                                                 int64_t in_features,
                                                                 DType storage) {
  return std::make_unique<OneDnnMatrix>(out_features, in_features, storage);
}

}  // namespace lockstep::kernels::cpu
