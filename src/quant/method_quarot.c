/* SPDX-License-Identifier: GPL-3.0-or-later */
/* QuaRot (Ashkboos et al. 2024), weights only: a base method in the frame of a
 * rotated residual stream, one rotation a model. */
#include <string.h>

#include "ptq/base/mem.h"
#include "turned.h"

typedef struct own_options {
  int64_t seed;
  bool hadamard_inputs;
} own_options;

typedef struct quarot_options {
  ptq_base_method base;
  own_options own;
} quarot_options;

_Static_assert(sizeof(quarot_options) <= sizeof(((ptq_method *)0)->own),
               "options fit");

static const char *const not_below[] = {"eora", "lqer", "quarot", "rht", NULL};
static const own_options defaults = {.seed = 0};

/* clang-format off */
#define AT(field) offsetof(own_options, field)
static const ptq_option_row rows[] = {
  {"hadamard_inputs", PTQ_OPTION_BOOL, AT(hadamard_inputs), 0.0, 0.0, NULL},
  {"seed",            PTQ_OPTION_INT,  AT(seed),         0.0, 0x1p31, NULL},
  {NULL,              PTQ_OPTION_BOOL, 0,                   0.0, 0.0, NULL},
};
/* clang-format on */

static const ptq_option_table table = {.rows = rows, .defaults = &defaults};

static quarot_options options_of(const ptq_method *m) {
  quarot_options o;
  memcpy(&o, m->own.bytes, sizeof o);
  return o;
}

static ptq_status parse(ptq_method *m, const ptq_method_option *options,
                        size_t n, ptq_err *err) {
  quarot_options o = {.own = defaults};
  const ptq_status rc =
      ptq_turned_parse(m, &table, options, n, "rtn", not_below, &o.own,
                       sizeof o.own, &o.base, err);
  if (rc == PTQ_OK) memcpy(m->own.bytes, &o, sizeof o);
  return rc;
}

static ptq_status quantize_in_stream(const quarot_options *o,
                                     const ptq_method *base,
                                     const ptq_quant_input *in,
                                     ptq_quant_output *out, int n,
                                     ptq_err *err) {
  const int64_t width = in->reads_stream ? in->cols : in->rows;
  ptq_status rc = PTQ_OK;
  ptq_rotation stream = {0}, inner = {0};
  ptq_turn *turns = NULL;
  const bool turns_inner = o->own.hadamard_inputs && in->writes_stream;
  PTQ_TRY(ptq_rotation_init(&stream, width, true,
                            ptq_rotation_seed(o->own.seed, NULL, "stream"),
                            err));
  if (turns_inner)
    PTQ_TRY(ptq_rotation_init(&inner, in->cols, false,
                              ptq_rotation_seed(o->own.seed, NULL, "inner"),
                              err));
  const ptq_stream_frame frame = {.stream = &stream,
                                  .inner = turns_inner ? &inner : NULL};
  PTQ_TRY(ptq_alloc(&turns, n, sizeof *turns, "frames", err));
  for (int i = 0; i < n; i++) turns[i] = ptq_stream_turn(&frame, &in[i]);
  PTQ_TRY(ptq_turned_quantize(base, turns, in, out, n, err));
done:
  ptq_free(turns);
  ptq_rotation_release(&stream);
  ptq_rotation_release(&inner);
  return rc;
}

static ptq_status quantize_site(const ptq_method *m, const ptq_quant_input *in,
                                ptq_quant_output *out, int n, ptq_err *err) {
  const quarot_options o = options_of(m);
  const ptq_method base = ptq_base_get(&o.base);
  if (!in->reads_stream && !in->writes_stream)
    return ptq_method_quantize_site(&base, in, out, n, err);
  return quantize_in_stream(&o, &base, in, out, n, err);
}

const ptq_method_family ptq_method_quarot = {
    .name = "quarot",
    .summary = "a base method in the frame of a rotated residual stream",
    .source = "arXiv 2404.00456; spcl/QuaRot 5008669 rotation_utils.py, "
              "weights only",
    .options_help = "base=rtn|gptq|... hadamard_inputs=false seed=0, the "
                    "base's",
    .parse = parse,
    .mode = ptq_turned_mode,
    .accepts = ptq_turned_accepts,
    .quantize_site = quantize_site,
    .flops = ptq_turned_flops,
    .bytes = ptq_turned_bytes,
};
