/* SPDX-License-Identifier: GPL-3.0-or-later */
/** @file tables.h  Tables for the analysis tests: goldens and a synthetic
 * study of a known law. Header only, one test program each. */
#ifndef PTQ_TEST_ANALYSIS_TABLES_H
#define PTQ_TEST_ANALYSIS_TABLES_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/analysis/frame.h"
#include "ptq/base/rng.h"
#include "ptq/base/text.h"

/* The benchmark defines larger ones. */
#ifndef PTQ_TEST_TABLE_MAX
#define PTQ_TEST_TABLE_MAX 2048
#define PTQ_TEST_TABLE_MODELS 32
#endif
enum { TABLE_MAX = PTQ_TEST_TABLE_MAX, TABLE_MODELS = PTQ_TEST_TABLE_MODELS };

typedef struct tables {
  ptq_point_row points[TABLE_MAX];
  int states[TABLE_MAX];
  int64_t subject[TABLE_MAX], n_points;
  ptq_model_row models[TABLE_MODELS];
  int64_t n_models;
} tables;

static inline ptq_frame_source tables_source(const tables *t) {
  return (ptq_frame_source){.points = t->points,
                            .states = t->states,
                            .subject = t->subject,
                            .n_points = t->n_points,
                            .models = t->models,
                            .n_models = t->n_models};
}

/* Row of the model, made when it is new. */
static inline ptq_model_row *tables_model(tables *t, const char *name,
                                          const char *family) {
  for (int64_t i = 0; i < t->n_models; i++)
    if (strcmp(t->models[i].model, name) == 0) return &t->models[i];
  ptq_model_row *m = &t->models[t->n_models++];
  ptq_row_clear(ptq_table_get(PTQ_TABLE_MODELS), m);
  (void)ptq_text_copy(m->model, sizeof m->model, name);
  (void)ptq_text_copy(m->family, sizeof m->family, family);
  (void)ptq_text_copy(m->provenance, sizeof m->provenance, "native");
  return m;
}

static inline ptq_point_row *tables_point(tables *t, ptq_model_row *m,
                                          const char *dtype, const char *method,
                                          int64_t group) {
  const int64_t i = t->n_points++;
  ptq_point_row *p = &t->points[i];
  ptq_row_clear(ptq_table_get(PTQ_TABLE_POINTS), p);
  (void)snprintf(p->key, sizeof p->key, "%032llx", (unsigned long long)i);
  (void)ptq_text_copy(p->model, sizeof p->model, m->model);
  (void)ptq_text_copy(p->family, sizeof p->family, m->family);
  (void)ptq_text_copy(p->dtype, sizeof p->dtype, dtype);
  (void)ptq_text_copy(p->method, sizeof p->method, method);
  p->group = group;
  t->states[i] = PTQ_STATE_DONE;
  t->subject[i] = m - t->models;
  return p;
}

/* Standard normal by Box and Muller. */
static inline double tables_normal(ptq_rng *r) {
  const double u = 1.0 - ptq_rng_unit(r), v = ptq_rng_unit(r);
  return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

/** A law to make points from. */
typedef struct synthetic_law {
  double intercept, params, bits, group, gptq; /* of ln(dnll) */
  double noise, noise_model;                   /* sd of ln(dnll) */
  double floor;                                /* measurement error, nats */
} synthetic_law;

static inline double synthetic_loss(const synthetic_law *law,
                                    const ptq_model_row *m,
                                    const ptq_point_row *p) {
  return law->intercept + law->params * log((double)m->params_nonembedding) +
         law->bits * p->bits_per_weight + law->group * log((double)p->group) +
         (strcmp(p->method, "gptq") == 0 ? law->gptq : 0.0);
}

/* Ten models of two families, eight dtypes, two methods, two groups. */
static inline void tables_synthetic(tables *t, const synthetic_law *law,
                                    uint64_t seed) {
  static const char *const families[] = {"llama", "opt"};
  static const char *const dtypes[] = {"mxint2", "mxint3", "mxint4", "mxint5",
                                       "mxint6", "int3",   "int4",   "int5"};
  static const int64_t groups[] = {32, 128};
  static const char *const methods[] = {"rtn", "gptq"};
  ptq_rng rng;
  ptq_rng_init(&rng, seed);
  memset(t, 0, sizeof *t);
  for (int f = 0; f < 2; f++)
    for (int s = 0; s < 5; s++) {
      const double size = 25e3 * pow(3.3, s) * (f == 0 ? 1.0 : 1.2);
      char name[32];
      (void)snprintf(name, sizeof name, "%s-%dk", families[f],
                     (int)(size / 1e3));
      ptq_model_row *m = tables_model(t, name, families[f]);
      m->params_nonembedding = m->params_quantizable = (int64_t)size;
      m->params = m->params_nonembedding + 65536 * (1 + s);
      m->d_model = 32 * (1 + s);
      m->d_ff = 3 * m->d_model;
      m->n_blocks = 2 + s;
      m->vocab = 1024 * (f + 1);
      m->nll = 4.4 + 0.3 * f - 0.12 * log(size / 25e3);
      m->nll_se = 0.02;
      m->nll_byte = m->nll / 3.0;
      m->nll_unigram = 6.0 + 0.4 * f;
      const double effect = law->noise_model * tables_normal(&rng);
      for (size_t d = 0; d < sizeof dtypes / sizeof dtypes[0]; d++)
        for (int k = 0; k < 2; k++)
          for (int g = 0; g < 2; g++) {
            ptq_point_row *p =
                tables_point(t, m, dtypes[d], methods[k], groups[g]);
            const bool mx = dtypes[d][0] == 'm';
            const double bits = dtypes[d][strlen(dtypes[d]) - 1] - '0';
            const double overhead = (mx ? 8.0 : 32.0) / (double)groups[g];
            p->bits_per_weight = bits + overhead;
            p->bits_model = p->bits_per_weight * size +
                            16.0 * (double)(m->params - m->params_quantizable);
            p->sqnr_weight = 6.02 * bits - 4.0 - (k == 1 ? 0.8 : 0.0) -
                             0.6 * log2((double)groups[g] / 32.0) +
                             0.2 * tables_normal(&rng);
            p->sqnr_output = p->sqnr_weight + (k == 1 ? 2.8 : 0.5) +
                             0.2 * tables_normal(&rng);
            p->sqnr_output_prop = p->sqnr_output - 1.5;
            const double mu = exp(synthetic_loss(law, m, p) + effect +
                                  law->noise * tables_normal(&rng));
            p->dnll_se = law->floor + 0.02 * mu;
            p->dnll = mu + p->dnll_se * tables_normal(&rng);
            p->nll = m->nll + p->dnll;
            p->nll_se = m->nll_se;
            p->nll_byte = p->nll / 3.0;
            p->ppl = exp(p->nll);
            p->kl = fabs(p->dnll) + 0.001;
            p->kl_rev = p->kl;
            p->kl_se = p->dnll_se;
            p->kl_p99 = 9.0 * p->kl;
            p->top1 = exp(-p->kl);
          }
    }
}

/* A CSV of numbers and words into cells; returns the rows behind the header.
 * Lines that begin with # are comments. Aborts on what it cannot read. */
typedef struct csv {
  char cell[512][16][40];
  char head[16][40];
  int rows, columns;
} csv;

static inline int csv_split(char *line, char (*cells)[40]) {
  int n = 0;
  line[strcspn(line, "\r\n")] = '\0';
  for (char *at = line; n < 16; n++) {
    const size_t len = strcspn(at, ",");
    if (len >= 40) abort();
    memcpy(cells[n], at, len);
    cells[n][len] = '\0';
    if (at[len] == '\0') return n + 1;
    at += len + 1;
  }
  abort();
}

static inline void csv_read(csv *c, const char *path) {
  char line[1024];
  FILE *f = fopen(path, "r");
  if (f == NULL) {
    fprintf(stderr, "cannot open '%s'\n", path);
    abort();
  }
  c->rows = c->columns = 0;
  while (fgets(line, sizeof line, f) != NULL) {
    if (line[0] == '#') continue;
    if (c->columns == 0)
      c->columns = csv_split(line, c->head);
    else if (csv_split(line, c->cell[c->rows++]) != c->columns)
      abort();
  }
  fclose(f);
}

static inline const char *csv_text(const csv *c, int row, const char *name) {
  for (int i = 0; i < c->columns; i++)
    if (strcmp(c->head[i], name) == 0) return c->cell[row][i];
  abort();
}

static inline double csv_number(const csv *c, int row, const char *name) {
  return strtod(csv_text(c, row, name), NULL);
}

/* tests/golden/fit/points.csv */
static inline void tables_golden(tables *t) {
  static csv c;
  csv_read(&c, PTQ_SOURCE_DIR "/tests/golden/fit/points.csv");
  memset(t, 0, sizeof *t);
  for (int i = 0; i < c.rows; i++) {
    ptq_model_row *m =
        tables_model(t, csv_text(&c, i, "model"), csv_text(&c, i, "family"));
    m->params_nonembedding = (int64_t)csv_number(&c, i, "params");
    m->nll = csv_number(&c, i, "nll_model");
    m->nll_unigram = csv_number(&c, i, "nll_unigram");
    ptq_point_row *p =
        tables_point(t, m, csv_text(&c, i, "dtype"), csv_text(&c, i, "method"),
                     (int64_t)csv_number(&c, i, "group"));
    p->bits_per_weight = csv_number(&c, i, "bits");
    p->sqnr_output = csv_number(&c, i, "sqnr");
    p->nll = csv_number(&c, i, "nll");
    p->dnll = csv_number(&c, i, "dnll");
    p->dnll_se = csv_number(&c, i, "dnll_se");
  }
}

#endif /* PTQ_TEST_ANALYSIS_TABLES_H */
