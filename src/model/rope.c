/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Rotation angles from config.json, as transformers 4.57 computes them
 * (modeling_rope_utils): in float32, step by step, so that positions in the
 * thousands agree. "dynamic" changes nothing up to max_positions, and longer
 * windows are refused; "longrope" has two sets of angles for short and long
 * windows.
 */
#include <math.h>
#include <string.h>

#include "arch.h"

/* What rope_scaling may say. */
typedef struct scaling {
  const char *type;
  double factor, low, high, beta_fast, beta_slow, amplitude, mscale, mscale_all;
  int64_t original;
  bool truncate; /* yarn's pairs at whole numbers */
} scaling;

/* theta^(2i / width) in float32. */
static float power(double theta, int64_t i, int64_t width) {
  const float exponent = (float)(2 * i) / (float)width;
  return (float)pow((double)(float)theta, (double)exponent);
}

void ptq_rope_fill(const ptq_model_info *info, double theta, double divisor,
                   ptq_rope *rope) {
  for (int64_t i = 0; i < info->rotary_width / 2; i++) {
    const float base = 1.0F / power(theta, i, info->rotary_width);
    rope->frequency[i] = divisor == 1.0 ? base : base / (float)divisor;
  }
  rope->amplitude = 1.0;
}

/* Long waves are stretched, short ones kept, those between in proportion. */
static void fill_llama3(const ptq_model_info *info, double theta,
                        const scaling *s, ptq_rope *rope) {
  const double old = (double)s->original;
  ptq_rope_fill(info, theta, 1.0, rope);
  for (int64_t i = 0; i < info->rotary_width / 2; i++) {
    const float f = rope->frequency[i];
    const float wave = 6.28318530718F / f;
    if ((double)wave < old / s->high) continue;
    const float slow = f / (float)s->factor;
    const float smooth =
        ((float)old / wave - (float)s->low) / ((float)s->high - (float)s->low);
    rope->frequency[i] =
        (double)wave > old / s->low
            ? slow
            : (1.0F - smooth) * f / (float)s->factor + smooth * f;
  }
}

/* The pair that turns `turns` times within the original window. */
static double yarn_pair(const ptq_model_info *info, double theta,
                        const scaling *s, double turns) {
  const double two_pi = 6.283185307179586;
  return (double)info->rotary_width *
         log((double)s->original / (turns * two_pi)) / (2.0 * log(theta));
}

static double yarn_mscale(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * log(factor) + 1.0;
}

static void fill_yarn(const ptq_model_info *info, double theta,
                      const scaling *s, ptq_rope *rope) {
  double low = yarn_pair(info, theta, s, s->beta_fast);
  double high = yarn_pair(info, theta, s, s->beta_slow);
  if (s->truncate) {
    low = floor(low);
    high = ceil(high);
  }
  low = fmax(low, 0.0);
  high = fmin(high, (double)info->rotary_width - 1.0);
  if (low == high) high += 0.001;
  for (int64_t i = 0; i < info->rotary_width / 2; i++) {
    const float p = power(theta, i, info->rotary_width);
    float ramp = (float)(((double)i - low) / (high - low));
    ramp = ramp < 0.0F ? 0.0F : ramp > 1.0F ? 1.0F : ramp;
    rope->frequency[i] =
        1.0F / ((float)s->factor * p) * ramp + 1.0F / p * (1.0F - ramp);
  }
  double amplitude = s->amplitude;
  if (amplitude == 0.0)
    amplitude = s->mscale > 0.0 && s->mscale_all > 0.0
                    ? yarn_mscale(s->factor, s->mscale) /
                          yarn_mscale(s->factor, s->mscale_all)
                    : yarn_mscale(s->factor, 1.0);
  rope->amplitude = amplitude;
}

static bool is_phi3(const ptq_model_info *info) {
  return strcmp(info->arch, "phi3") == 0;
}

static ptq_status fill_longrope(const ptq_config *sub, const char *key,
                                const ptq_model_info *info, double theta,
                                double amplitude, ptq_rope *rope,
                                ptq_err *err) {
  const int64_t pairs = info->rotary_width / 2;
  double factors[PTQ_ROPE_PAIRS];
  const ptq_status rc = ptq_config_list_numbers(sub, key, pairs, factors, err);
  if (rc != PTQ_OK) return rc;
  for (int64_t i = 0; i < pairs; i++)
    rope->frequency[i] =
        1.0F / ((float)factors[i] * power(theta, i, info->rotary_width));
  rope->amplitude = amplitude;
  return PTQ_OK;
}

/*
 * The length before the stretch. transformers 4.49 and 4.57 read it beside
 * rope_scaling, never within; 5 has it within rope_parameters, where a factor
 * that is not the ratio of both lengths stands against earlier versions.
 */
static ptq_status read_original(const ptq_config *c, const ptq_config *sub,
                                const char *key, const scaling *s,
                                ptq_model_info *info, int64_t *out,
                                ptq_err *err) {
  static const char name[] = "original_max_position_embeddings";
  ptq_status rc = PTQ_OK;
  *out = is_phi3(info) ? 4096 : 0;
  PTQ_TRY(ptq_config_int(c, name, 1, out, err));
  if (strcmp(key, "rope_parameters") != 0 || s->original == 0) return PTQ_OK;
  if (ptq_config_has(c, name) && *out != s->original)
    PTQ_TRY(ptq_config_refuse(sub, name, "the same as beside it", err));
  *out = s->original;
  if (s->factor > 0.0 &&
      s->factor * (double)*out != (double)info->max_positions)
    PTQ_TRY(ptq_config_refuse(
        sub, "factor",
        "max_position_embeddings over original_max_position_embeddings", err));
done:
  return rc;
}

static ptq_status read_longrope(const ptq_config *c, const ptq_config *sub,
                                const char *key, double theta, const scaling *s,
                                ptq_model_info *info, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double factor = s->factor;
  int64_t original = 0;
  PTQ_TRY(read_original(c, sub, key, s, info, &original, err));
  if (original > 0)
    factor = (double)info->max_positions / (double)original;
  else
    original = info->max_positions;
  double amplitude = s->amplitude;
  if (amplitude == 0.0 && factor == 0.0)
    PTQ_TRY(ptq_config_refuse(c, key, "longrope with its factor", err));
  if (amplitude == 0.0)
    amplitude =
        factor <= 1.0 ? 1.0 : sqrt(1.0 + log(factor) / log((double)original));
  PTQ_TRY(fill_longrope(sub, "short_factor", info, theta, amplitude,
                        &info->rope[PTQ_ROPE_MAIN], err));
  PTQ_TRY(fill_longrope(sub, "long_factor", info, theta, amplitude,
                        &info->rope[PTQ_ROPE_LONG], err));
  info->rope_long_from = original;
done:
  return rc;
}

static ptq_status read_scaling(const ptq_config *sub, scaling *s,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_config_text(sub, "type", &s->type, err));
  PTQ_TRY(ptq_config_text(sub, "rope_type", &s->type, err));
  PTQ_TRY(ptq_config_positive(sub, "factor", &s->factor, err));
  PTQ_TRY(ptq_config_positive(sub, "low_freq_factor", &s->low, err));
  PTQ_TRY(ptq_config_positive(sub, "high_freq_factor", &s->high, err));
  PTQ_TRY(ptq_config_positive(sub, "beta_fast", &s->beta_fast, err));
  PTQ_TRY(ptq_config_positive(sub, "beta_slow", &s->beta_slow, err));
  PTQ_TRY(ptq_config_positive(sub, "attention_factor", &s->amplitude, err));
  PTQ_TRY(ptq_config_positive(sub, "mscale", &s->mscale, err));
  PTQ_TRY(ptq_config_positive(sub, "mscale_all_dim", &s->mscale_all, err));
  PTQ_TRY(ptq_config_int(sub, "original_max_position_embeddings", 1,
                         &s->original, err));
  s->truncate = !ptq_config_mentions(sub, "truncate"); /* null is false */
  PTQ_TRY(ptq_config_bool(sub, "truncate", &s->truncate, err));
done:
  return rc;
}

static const char *const scaling_keys[] = {
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "factor",
    "high_freq_factor",
    "long_factor",
    "low_freq_factor",
    "mscale",
    "mscale_all_dim",
    "rope_theta",
    "rope_type",
    "original_max_position_embeddings",
    "short_factor",
    "truncate",
    "type",
    NULL,
};

/* Numbers without a type would go unused. */
static ptq_status need_type(const ptq_config *c, const char *key,
                            const ptq_config *sub, ptq_err *err) {
  for (int i = 0; scaling_keys[i] != NULL; i++)
    if (strcmp(scaling_keys[i], "rope_theta") != 0 &&
        ptq_config_has(sub, scaling_keys[i]))
      return ptq_config_refuse(c, key, "one with its rope_type", err);
  return PTQ_OK;
}

static ptq_status apply_scaling(const ptq_config *c, const char *key,
                                const ptq_config *sub, double theta,
                                ptq_model_info *info, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  scaling s = {.beta_fast = 32.0, .beta_slow = 1.0};
  ptq_rope *rope = &info->rope[PTQ_ROPE_MAIN];
  PTQ_TRY(read_scaling(sub, &s, err));
  PTQ_TRY(ptq_config_check_keys(sub, scaling_keys, NULL, 0, err));
  if (s.type == NULL) return need_type(c, key, sub, err);
  const bool plain =
      strcmp(s.type, "default") == 0 || strcmp(s.type, "dynamic") == 0;
  if (plain) return PTQ_OK;
  /* Phi 3 used to say "su" or "yarn". */
  if (strcmp(s.type, "longrope") == 0 ||
      (is_phi3(info) && ptq_config_has(sub, "short_factor")))
    return read_longrope(c, sub, key, theta, &s, info, err);
  if (s.factor == 0.0)
    PTQ_TRY(ptq_config_refuse(c, key, "a rope type with its factor", err));
  if (strcmp(s.type, "linear") == 0) {
    ptq_rope_fill(info, theta, s.factor, rope);
  } else if (strcmp(s.type, "yarn") == 0) {
    if (s.original == 0) s.original = info->max_positions;
    fill_yarn(info, theta, &s, rope);
  } else if (strcmp(s.type, "llama3") == 0) {
    if (!(s.low > 0.0 && s.high > s.low && s.original > 0))
      PTQ_TRY(ptq_config_refuse(
          c, key,
          "llama3 with low_freq_factor < high_freq_factor and "
          "original_max_position_embeddings",
          err));
    fill_llama3(info, theta, &s, rope);
  } else {
    PTQ_TRY(ptq_config_refuse(
        c, key, "default, linear, dynamic, yarn, longrope, llama3", err));
  }
done:
  return rc;
}

/* transformers 5 reads theta within; versions before only beside rope_scaling,
 * and rope_parameters not at all. */
static ptq_status read_inner_theta(const ptq_config *sub, const char *key,
                                   double *theta, ptq_err *err) {
  const double outer = *theta;
  const ptq_status rc = ptq_config_positive(sub, "rope_theta", theta, err);
  if (rc != PTQ_OK || *theta == outer || strcmp(key, "rope_scaling") != 0)
    return rc;
  return ptq_config_refuse(sub, "rope_theta", "the same as beside it", err);
}

ptq_status ptq_read_rope(const ptq_config *c, double theta,
                         ptq_model_info *info, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  /* transformers 5 writes rope_parameters, which holds theta as well. */
  const char *key =
      ptq_config_has(c, "rope_parameters") ? "rope_parameters" : "rope_scaling";
  ptq_config *sub = NULL;
  info->positions = PTQ_POSITIONS_ROTARY;
  if (ptq_config_has(c, "rope_parameters") && ptq_config_has(c, "rope_scaling"))
    PTQ_TRY(ptq_config_refuse(c, "rope_parameters",
                              "one of rope_parameters and rope_scaling", err));
  if (info->rotary_width / 2 > PTQ_ROPE_PAIRS)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_UNSUPPORTED,
                     "'%s': heads of %lld rotated elements; at most %d are "
                     "supported",
                     ptq_config_path(c), (long long)info->rotary_width,
                     2 * PTQ_ROPE_PAIRS));
  PTQ_TRY(ptq_config_positive(c, "rope_theta", &theta, err));
  PTQ_TRY(ptq_config_sub(c, key, &sub, err));
  if (sub != NULL) PTQ_TRY(read_inner_theta(sub, key, &theta, err));
  ptq_rope_fill(info, theta, 1.0, &info->rope[PTQ_ROPE_MAIN]);
  if (sub != NULL) PTQ_TRY(apply_scaling(c, key, sub, theta, info, err));
done:
  ptq_config_close(sub);
  return rc;
}
