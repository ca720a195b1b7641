/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file parity_logits.c
 * parity_logits [--bf16] MODEL IDS.npy OUT [INPUTS]: the float32 logits
 * [windows, length, vocab] of a checkpoint over token windows, as raw bytes;
 * prints the NLL sum of each window. INPUTS receives what the linear layers
 * take: float32 [length, width] by window, block and site, NaN for tokens that
 * an expert does not get. --bf16: products of bfloat16, and what multiplies
 * them on standard error.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/base/npy.h"
#include "ptq/eval/score.h"
#include "ptq/num/blas.h"

/* Everything the program holds. */
typedef struct parity {
  ptq_model *model;
  const ptq_model_info *info; /* borrowed */
  ptq_embedding embedding;
  ptq_head head;
  ptq_workspace *ws;
  ptq_scorer *scorer;
  ptq_multiplier *mul; /* NULL in float32 */
  float *h, *logits;   /* [length, d_model], [length, vocab] */
  float *slice;        /* [length, PTQ_HEAD_SLICE] */
} parity;

static ptq_status parity_open(parity *p, const char *dir, int64_t length,
                              ptq_compute compute, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_blas_init(err));
  PTQ_TRY(ptq_model_open(dir, &p->model, err));
  if (compute == PTQ_COMPUTE_BF16) {
    PTQ_TRY(ptq_bf16_init(err));
    PTQ_TRY(ptq_multiplier_create(&p->mul, err));
    fprintf(stderr, "bf16 %s\n", ptq_bf16_name());
  }
  PTQ_TRY(ptq_model_set_compute(p->model, compute, err));
  p->info = ptq_model_get_info(p->model);
  PTQ_TRY(ptq_model_load_embedding(p->model, &p->embedding, err));
  PTQ_TRY(ptq_model_load_head(p->model, &p->head, err));
  PTQ_TRY(ptq_workspace_create(p->info, length, &p->ws, err));
  PTQ_TRY(ptq_scorer_create(p->info, length, 0, &p->scorer, err));
  PTQ_TRY(ptq_alloc(&p->h, length * p->info->d_model, sizeof(float), "states",
                    err));
  PTQ_TRY(ptq_alloc(&p->logits, length * p->info->vocab, sizeof(float),
                    "logits", err));
  PTQ_TRY(ptq_alloc(&p->slice, length * PTQ_HEAD_SLICE, sizeof(float), "logits",
                    err));
done:
  return rc;
}

static void parity_close(parity *p) {
  ptq_free(p->h);
  ptq_free(p->logits);
  ptq_free(p->slice);
  ptq_scorer_free(p->scorer);
  ptq_multiplier_free(p->mul);
  ptq_workspace_free(p->ws);
  ptq_head_release(&p->head);
  ptq_embedding_release(&p->embedding);
  ptq_model_close(p->model);
}

static ptq_status write_floats(FILE *out, const float *x, int64_t n,
                               ptq_err *err) {
  if (fwrite(x, sizeof *x, (size_t)n, out) == (size_t)n) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_IO, "cannot write");
}

/* What the sites of a block saw of a window. */
typedef struct seen {
  int64_t length;
  int n_sites;
  float **x;             /* owned, of owned; [n_sites][length, width] */
  const int32_t *tokens; /* borrowed; of the expert at hand */
} seen;

static ptq_status keep_routed(void *ctx, int expert, const int32_t *tokens,
                              int64_t n, ptq_err *err) {
  seen *s = ctx;
  (void)expert, (void)n, (void)err;
  s->tokens = tokens;
  return PTQ_OK;
}

static ptq_status keep_input(void *ctx, int site, const float *x, int64_t n,
                             int64_t width, ptq_err *err) {
  const seen *s = ctx;
  (void)err;
  for (int64_t i = 0; i < n; i++) {
    const bool all = n == s->length || ptq_site_kind(site) < PTQ_SITE_MLP_IN;
    memcpy(s->x[site] + (all ? i : s->tokens[i]) * width, x + i * width,
           (size_t)width * sizeof *x);
  }
  return PTQ_OK;
}

static ptq_status seen_open(seen *s, const ptq_model_info *info, int64_t length,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *s = (seen){.length = length, .n_sites = ptq_site_count(info)};
  PTQ_TRY(ptq_alloc(&s->x, s->n_sites, sizeof *s->x, "inputs", err));
  for (int i = 0; i < s->n_sites; i++)
    PTQ_TRY(ptq_alloc(&s->x[i], length * ptq_site_width(info, i), sizeof(float),
                      "inputs", err));
done:
  return rc;
}

static void seen_close(seen *s) {
  for (int i = 0; s->x != NULL && i < s->n_sites; i++) ptq_free(s->x[i]);
  ptq_free(s->x);
}

/* Write them, and forget. */
static ptq_status seen_write(const seen *s, const ptq_model_info *info,
                             FILE *out, bool write, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int i = 0; i < s->n_sites && rc == PTQ_OK; i++) {
    const int64_t n = s->length * ptq_site_width(info, i);
    if (write) rc = write_floats(out, s->x[i], n, err);
    for (int64_t k = 0; k < n; k++) s->x[i][k] = NAN;
  }
  return rc;
}

/* All logits of a window, slice by slice. */
static ptq_status multiply_head(parity *p, int64_t length, ptq_err *err) {
  const int64_t v = p->info->vocab;
  for (int64_t v0 = 0; v0 < v; v0 += PTQ_HEAD_SLICE) {
    const int64_t width = v - v0 < PTQ_HEAD_SLICE ? v - v0 : PTQ_HEAD_SLICE;
    const ptq_status rc = ptq_head_logits(
        p->info, &p->head, p->mul, p->h, length, v0, v0 + width, p->slice, err);
    if (rc != PTQ_OK) return rc;
    for (int64_t i = 0; i < length; i++)
      memcpy(p->logits + i * v + v0, p->slice + i * width,
             (size_t)width * sizeof *p->slice);
  }
  return PTQ_OK;
}

static ptq_status one_window(parity *p, const uint32_t *ids, int64_t length,
                             FILE *out, FILE *inputs, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_block block = {0};
  seen s = {0};
  const ptq_forward_hook hook = {
      .ctx = &s, .input = keep_input, .routed = keep_routed};
  double nll = 0.0;
  if (inputs != NULL) {
    PTQ_TRY(seen_open(&s, p->info, length, err));
    PTQ_TRY(seen_write(&s, p->info, inputs, false, err));
  }
  PTQ_TRY(ptq_embed(p->info, &p->embedding, ids, length, p->h, err));
  for (int64_t i = 0; i < p->info->n_blocks; i++) {
    ptq_block_release(&block);
    PTQ_TRY(ptq_model_load_block(p->model, i, &block, err));
    PTQ_TRY(ptq_block_forward(p->info, &block, p->h, length, p->ws,
                              inputs != NULL ? &hook : NULL, PTQ_SITE_COUNT,
                              err));
    if (inputs != NULL) PTQ_TRY(seen_write(&s, p->info, inputs, true, err));
  }
  ptq_head_norm(p->info, &p->head, p->h, length);
  PTQ_TRY(multiply_head(p, length, err));
  PTQ_TRY(write_floats(out, p->logits, length * p->info->vocab, err));
  PTQ_TRY(ptq_score_window(p->scorer, &p->head, ids, length, p->h, NULL, 0,
                           &nll, NULL, NULL, err));
  printf("%.17g\n", nll);
done:
  seen_close(&s);
  ptq_block_release(&block);
  return rc;
}

static ptq_status open_output(const char *path, FILE **out, ptq_err *err) {
  *out = fopen(path, "wb");
  if (*out != NULL) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_IO, "cannot write '%s'", path);
}

static ptq_status close_output(FILE *f, ptq_status rc, ptq_err *err) {
  if (f != NULL && fclose(f) != 0 && rc == PTQ_OK)
    return PTQ_FAIL(err, PTQ_E_IO, "cannot write");
  return rc;
}

int main(int argc, char **argv) {
  ptq_compute compute = PTQ_COMPUTE_F32;
  if (argc > 1 && strcmp(argv[1], "--bf16") == 0) {
    compute = PTQ_COMPUTE_BF16;
    argc--;
    argv++;
  }
  if (argc != 4 && argc != 5) {
    fprintf(stderr,
            "usage: parity_logits [--bf16] MODEL IDS.npy OUT [INPUTS]\n");
    return 2;
  }
  ptq_status rc = PTQ_OK;
  ptq_err err = {0};
  parity p = {0};
  ptq_npy ids = {0};
  FILE *out = NULL, *inputs = NULL;
  PTQ_TRY(ptq_npy_read(argv[2], PTQ_NPY_U32, 2, &ids, &err));
  PTQ_TRY(parity_open(&p, argv[1], ids.dims[1], compute, &err));
  PTQ_TRY(open_output(argv[3], &out, &err));
  if (argc == 5) PTQ_TRY(open_output(argv[4], &inputs, &err));
  const uint32_t *data = ids.data;
  for (int64_t i = 0; i < ids.dims[0]; i++)
    PTQ_TRY(
        one_window(&p, data + i * ids.dims[1], ids.dims[1], out, inputs, &err));
done:
  rc = close_output(out, rc, &err);
  rc = close_output(inputs, rc, &err);
  if (rc != PTQ_OK) fprintf(stderr, "parity_logits: %s\n", err.msg);
  ptq_npy_release(&ids);
  parity_close(&p);
  return rc != PTQ_OK;
}
