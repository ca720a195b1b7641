/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "lane.h"
#include "ptq/base/mem.h"

/* Sizes over the linear layers of a block, and of a site. */
typedef struct block_sizes {
  int64_t total, largest, most_codes, most_params;
} block_sizes;

static block_sizes measure(const ptq_model_info *info, int64_t smallest_group) {
  block_sizes s = {0};
  int64_t codes[PTQ_SITE_COUNT] = {0}, params[PTQ_SITE_COUNT] = {0};
  for (int role = 0; role < PTQ_ROLE_COUNT; role++) {
    if (!ptq_role_present(info, (ptq_role)role)) continue;
    const ptq_site site = ptq_role_site((ptq_role)role);
    const int64_t out = ptq_role_outputs(info, (ptq_role)role);
    const int64_t in = ptq_role_inputs(info, (ptq_role)role);
    s.total += out * in;
    if (out * in > s.largest) s.largest = out * in;
    codes[site] += out * in;
    params[site] +=
        out * ptq_dtype_groups(
                  in, smallest_group > 0 ? smallest_group : PTQ_GROUP_ROW);
    if (codes[site] > s.most_codes) s.most_codes = codes[site];
    if (params[site] > s.most_params) s.most_params = params[site];
  }
  return s;
}

static ptq_status open_packed(ptq_workbench *b, const ptq_model_info *info,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_multiplier *mul = NULL;
  if (info->compute != PTQ_COMPUTE_BF16) return PTQ_OK;
  PTQ_TRY(ptq_multiplier_create(&mul, err));
  for (int role = 0; role < PTQ_ROLE_COUNT; role++)
    if (ptq_role_present(info, (ptq_role)role))
      PTQ_TRY(ptq_packed_create(mul, ptq_role_outputs(info, (ptq_role)role),
                                ptq_role_inputs(info, (ptq_role)role),
                                &b->packed[role], err));
done:
  ptq_multiplier_free(mul);
  return rc;
}

ptq_status ptq_workbench_open(ptq_workbench *b, const ptq_setup *setup,
                              int64_t smallest_group, bool sequential,
                              unsigned own_needs, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = setup->info;
  const block_sizes s = measure(info, smallest_group);
  *b = (ptq_workbench){0};
  PTQ_TRY(ptq_alloc(&b->weights, s.total, sizeof(float),
                    "quantized weights of a block", err));
  PTQ_TRY(
      ptq_alloc(&b->error, s.largest, sizeof(float), "an error matrix", err));
  PTQ_TRY(ptq_alloc(&b->codes, s.most_codes, sizeof(int16_t), "codes", err));
  PTQ_TRY(ptq_alloc(&b->params, s.most_params, sizeof(ptq_group_params),
                    "group parameters", err));
  PTQ_TRY(ptq_alloc(&b->hidden, setup->calib.length * info->d_model,
                    sizeof(float), "hidden states", err));
  for (int site = 0; site < PTQ_SITE_COUNT; site++)
    PTQ_TRY(ptq_alloc(&b->fold[site], ptq_site_width(info, (ptq_site)site),
                      sizeof(float), "scales of inputs", err));
  PTQ_TRY(ptq_alloc(&b->divisor, 2 * info->d_ff, sizeof(float),
                    "scales of outputs", err));
  float *at = b->weights;
  for (int role = 0; role < PTQ_ROLE_COUNT; role++) {
    if (!ptq_role_present(info, (ptq_role)role)) continue;
    b->role_weights[role] = at;
    at += ptq_role_outputs(info, (ptq_role)role) *
          ptq_role_inputs(info, (ptq_role)role);
  }
  PTQ_TRY(open_packed(b, info, err));
  if (sequential)
    PTQ_TRY(ptq_collected_open(&b->inputs, info, own_needs, setup->calib.length,
                               err));
  PTQ_TRY(ptq_factor_cache_create(&b->shared, err));
  PTQ_TRY(ptq_factor_cache_create(&b->own, err));
done:
  if (rc != PTQ_OK) ptq_workbench_close(b);
  return rc;
}

void ptq_workbench_close(ptq_workbench *b) {
  ptq_free(b->weights);
  ptq_free(b->error);
  ptq_free(b->codes);
  ptq_free(b->params);
  ptq_free(b->hidden);
  for (int site = 0; site < PTQ_SITE_COUNT; site++) ptq_free(b->fold[site]);
  ptq_free(b->divisor);
  for (int role = 0; role < PTQ_ROLE_COUNT; role++)
    ptq_packed_free(b->packed[role]);
  ptq_collected_close(&b->inputs);
  ptq_factor_cache_free(b->shared);
  ptq_factor_cache_free(b->own);
  *b = (ptq_workbench){0};
}
