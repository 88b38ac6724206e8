// Shapes, names and rotary frequencies against numbers worked out by hand.
#include "model/decoder_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "model/model_examples.h"

namespace lockstep::model {
namespace {

TEST(DecoderSpecTest, TensorNamesAreThoseOfTheCheckpoint) {
  DecoderSpec spec = SpecOf(SmallLlamaConfig());
  EXPECT_EQ(TensorName(spec, WeightRole::kQuery, 3), "model.layers.3.self_attn.q_proj.weight");
  EXPECT_EQ(TensorName(spec, WeightRole::kFinalNorm, 0), "model.norm.weight");
  EXPECT_EQ(TensorName(spec, WeightRole::kHead, 0), "lm_head.weight");
  spec.tie_embeddings = true;
  EXPECT_EQ(TensorName(spec, WeightRole::kHead, 0), "model.embed_tokens.weight");
}

TEST(DecoderSpecTest, ShapesAreOutTimesIn) {
  DecoderSpec spec = SpecOf(Llama70bConfig());
  auto shape = [&](WeightRole role) {
    WeightShape full = FullShape(spec, role);
    return std::pair(full.rows, full.cols);
  };
  EXPECT_EQ(shape(WeightRole::kEmbedding), std::pair(int64_t{128256}, int64_t{8192}));
  EXPECT_EQ(shape(WeightRole::kQuery), std::pair(int64_t{8192}, int64_t{8192}));
  EXPECT_EQ(shape(WeightRole::kKey), std::pair(int64_t{1024}, int64_t{8192}));
  EXPECT_EQ(shape(WeightRole::kDown), std::pair(int64_t{8192}, int64_t{28672}));
  EXPECT_EQ(shape(WeightRole::kInputNorm), std::pair(int64_t{8192}, int64_t{1}));
}

TEST(InverseFrequenciesTest, PlainOnesFallGeometrically) {
  std::vector<double> frequencies = InverseFrequencies({10000.0}, 64);
  ASSERT_EQ(frequencies.size(), 32u);
  for (int i = 0; i < 32; ++i) {
    EXPECT_NEAR(std::log(frequencies[i]), -2.0 * i / 64 * std::log(10000.0), 1e-12);
  }
}

TEST(InverseFrequenciesTest, LinearScalingDividesAll) {
  std::vector<double> plain = InverseFrequencies({10000.0}, 8);
  std::vector<double> scaled = InverseFrequencies({10000.0, RopeScaling::kLinear, 4.0}, 8);
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_DOUBLE_EQ(scaled[i], plain[i] / 4);
}

/// The rule as Hugging Face writes it, by wavelengths.
double Llama3Reference(double frequency, const RopeSpec& rope) {
  double wavelength = 2 * std::numbers::pi / frequency;
  double original = static_cast<double>(rope.original_max_position);
  if (wavelength < original / rope.high_freq_factor) return frequency;
  if (wavelength > original / rope.low_freq_factor) return frequency / rope.factor;
  double smooth = (original / wavelength - rope.low_freq_factor) /
                  (rope.high_freq_factor - rope.low_freq_factor);
  return (1 - smooth) * frequency / rope.factor + smooth * frequency;
}

TEST(InverseFrequenciesTest, Llama3KeepsShortWavelengthsAndStretchesLongOnes) {
  RopeSpec rope = SpecOf(Llama1bConfig()).attention.rope;
  std::vector<double> plain = InverseFrequencies({rope.theta}, 64);
  std::vector<double> scaled = InverseFrequencies(rope, 64);
  int blended = 0;
  for (size_t i = 0; i < plain.size(); ++i) {
    EXPECT_NEAR(scaled[i], Llama3Reference(plain[i], rope), 1e-12 * plain[i]);
    if (scaled[i] < plain[i] && scaled[i] > plain[i] / rope.factor * 1.0001) ++blended;
  }
  EXPECT_EQ(scaled.front(), plain.front());
  EXPECT_DOUBLE_EQ(scaled.back(), plain.back() / 32);
  EXPECT_GT(blended, 0);
}

}  // namespace
}  // namespace lockstep::model
