// Llama by the book (Touvron et al. 2023).
#include "worker/testing/reference_decoder.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "worker/testing/random_weights.h"

namespace lockstep::worker {
namespace {

using Vector = std::vector<double>;
using model::WeightRole;

class Reference {
 public:
  Reference(const model::DecoderSpec& spec, uint64_t seed) : spec_(spec), seed_(seed) {}

  /// [rows * cols] of the weight.
  const Vector& Weights(WeightRole role, int layer) {
    if (role == WeightRole::kHead && spec_.tie_embeddings) role = WeightRole::kEmbedding;
    Vector& weights = weights_[{role, layer}];
    if (!weights.empty()) return weights;
    const model::WeightShape shape = FullShape(spec_, role);
    for (int64_t row = 0; row < shape.rows; ++row) {
      for (int64_t col = 0; col < shape.cols; ++col) {
        weights.push_back(RandomWeight(seed_, TensorName(spec_, role, layer), row, col, shape));
      }
    }
    return weights;
  }

  Vector Times(WeightRole role, int layer, const Vector& x) {
    const Vector& weights = Weights(role, layer);
    Vector y(weights.size() / x.size());
    for (size_t row = 0; row < y.size(); ++row) {
      for (size_t col = 0; col < x.size(); ++col) y[row] += weights[row * x.size() + col] * x[col];
    }
    return y;
  }

  Vector Norm(WeightRole role, int layer, const Vector& x) {
    double mean_square = 0;
    for (double value : x) mean_square += value * value / x.size();
    Vector y(x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      y[i] = x[i] / std::sqrt(mean_square + spec_.norm_eps) * Weights(role, layer)[i];
    }
    return y;
  }

  void Rotate(Vector& x, int64_t position) const {
    const int head_dim = spec_.attention.head_dim;
    const Vector frequencies = model::InverseFrequencies(spec_.attention.rope, head_dim);
    for (size_t head = 0; head < x.size(); head += head_dim) {
      for (int i = 0; i < head_dim / 2; ++i) {
        double angle = position * frequencies[i];
        double a = x[head + i];
        double b = x[head + i + head_dim / 2];
        x[head + i] = a * std::cos(angle) - b * std::sin(angle);
        x[head + i + head_dim / 2] = b * std::cos(angle) + a * std::sin(angle);
      }
    }
  }

  Vector Attend(const Vector& query, const std::vector<Vector>& keys,
                const std::vector<Vector>& values) const {
    const int head_dim = spec_.attention.head_dim;
    Vector out(query.size());
    for (int head = 0; head < spec_.attention.num_heads; ++head) {
      const int kv_head = head / spec_.attention.group();
      Vector weights;
      for (const Vector& key : keys) {
        double dot = 0;
        for (int i = 0; i < head_dim; ++i) {
          dot += query[head * head_dim + i] * key[kv_head * head_dim + i];
        }
        weights.push_back(dot / std::sqrt(static_cast<double>(head_dim)));
      }
      const double max = *std::max_element(weights.begin(), weights.end());
      double sum = 0;
      for (double& weight : weights) sum += weight = std::exp(weight - max);
      for (size_t t = 0; t < weights.size(); ++t) {
        for (int i = 0; i < head_dim; ++i) {
          out[head * head_dim + i] += weights[t] / sum * values[t][kv_head * head_dim + i];
        }
      }
    }
    return out;
  }

  Vector Mlp(int layer, const Vector& x) {
    Vector gate = Times(WeightRole::kGate, layer, x);
    const Vector up = Times(WeightRole::kUp, layer, x);
    for (size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
    return Times(WeightRole::kDown, layer, gate);
  }

  void RunLayer(int layer, std::vector<Vector>& hidden) {
    std::vector<Vector> keys;
    std::vector<Vector> values;
    for (size_t t = 0; t < hidden.size(); ++t) {
      const Vector normed = Norm(WeightRole::kInputNorm, layer, hidden[t]);
      Vector query = Times(WeightRole::kQuery, layer, normed);
      keys.push_back(Times(WeightRole::kKey, layer, normed));
      values.push_back(Times(WeightRole::kValue, layer, normed));
      Rotate(query, t);
      Rotate(keys.back(), t);
      Add(Times(WeightRole::kAttentionOutput, layer, Attend(query, keys, values)), hidden[t]);
    }
    for (Vector& row : hidden) {
      Add(Mlp(layer, Norm(WeightRole::kPostAttentionNorm, layer, row)), row);
    }
  }

  Vector Embedding(int32_t token) {
    const Vector& weights = Weights(WeightRole::kEmbedding, 0);
    const int64_t begin = token * spec_.hidden_size;
    return {weights.begin() + begin, weights.begin() + begin + spec_.hidden_size};
  }

 private:
  static void Add(const Vector& delta, Vector& sum) {
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += delta[i];
  }

  const model::DecoderSpec& spec_;
  const uint64_t seed_;
  std::map<std::pair<WeightRole, int>, Vector> weights_;
};

}  // namespace

std::vector<std::vector<double>> ReferenceLogits(const model::DecoderSpec& spec, uint64_t seed,
                                                 std::span<const int32_t> tokens) {
  Reference reference(spec, seed);
  std::vector<Vector> hidden;
  for (int32_t token : tokens) hidden.push_back(reference.Embedding(token));
  for (int layer = 0; layer < spec.num_layers; ++layer) reference.RunLayer(layer, hidden);
  std::vector<Vector> logits;
  for (const Vector& row : hidden) {
    logits.push_back(
        reference.Times(WeightRole::kHead, 0, reference.Norm(WeightRole::kFinalNorm, 0, row)));
  }
  return logits;
}

double ReferenceLogprob(const std::vector<double>& logits, int32_t token) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (double logit : logits) sum += std::exp(logit - max);
  return logits[token] - max - std::log(sum);
}

}  // namespace lockstep::worker
