/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <math.h>
#include <string.h>

#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "spec_parts.h"

enum {
  RADII_MOST = 1000,
  DIRECTIONS_MOST = 1000,
  PROBES_MOST = 100000,
  LANCZOS_MOST = 10000
};

static const char *const elements[PTQ_RANDOM_KINDS] = {"gaussian", "gaussian",
                                                       "uniform", "uniform"};
static const char *const scalings[PTQ_RANDOM_KINDS] = {"layer", "row", "layer",
                                                       "row"};
static const char *const kinds[PTQ_RANDOM_KINDS] = {
    "gaussian:layer", "gaussian:row", "uniform:layer", "uniform:row"};

const char *ptq_random_elements(ptq_random_kind kind) {
  PTQ_ASSERT((unsigned)kind < PTQ_RANDOM_KINDS);
  return elements[kind];
}

const char *ptq_random_scaling(ptq_random_kind kind) {
  PTQ_ASSERT((unsigned)kind < PTQ_RANDOM_KINDS);
  return scalings[kind];
}

static const ptq_landscape_spec defaults = {
    .mode = PTQ_LANDSCAPE_OFF,
    .directions = 3,
    .random =
        {[PTQ_RANDOM_GAUSSIAN_LAYER] = true, [PTQ_RANDOM_UNIFORM_ROW] = true},
    .rtn = true,
    .radii = 24,
    .smallest = 0.003,
    .largest = 3.0,
    .probes = 16,
    .lanczos = 40,
    .starts = 2};

static const char *text_of(const ptq_yaml_node *node) {
  return node->kind == PTQ_YAML_SCALAR ? node->text : "";
}

static ptq_status read_spectra(const ptq_spec_source *src,
                               const ptq_yaml_node *node, ptq_spec *out,
                               ptq_err *err) {
  const char *text = text_of(node);
  out->spectra = PTQ_SPECTRA_FULL;
  if (strcmp(text, "full") == 0) return PTQ_OK;
  out->spectra = PTQ_SPECTRA_OFF;
  if (strcmp(text, "off") == 0) return PTQ_OK;
  return PTQ_YAML_FAIL(src->path, node, err, PTQ_E_ARG,
                       "spectra must be 'full' or 'off', got '%s'", text);
}

static ptq_status read_mode(const ptq_spec_source *src,
                            const ptq_yaml_node *node, ptq_landscape_mode *out,
                            ptq_err *err) {
  static const char *const names[] = {"off", "radial", "full"};
  for (int i = 0; i < 3; i++)
    if (strcmp(text_of(node), names[i]) == 0) {
      *out = (ptq_landscape_mode)i;
      return PTQ_OK;
    }
  return PTQ_YAML_FAIL(src->path, node, err, PTQ_E_ARG,
                       "landscape must be 'off', 'radial' or 'full', got '%s'",
                       text_of(node));
}

static ptq_status read_random(const ptq_spec_source *src,
                              const ptq_yaml_node *node,
                              ptq_landscape_spec *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_yaml_node *item = NULL;
  int64_t n = 0;
  PTQ_TRY(ptq_spec_items(src, node, "random", &item, &n, err));
  memset(out->random, 0, sizeof out->random);
  for (; n > 0; n--, item = item->next) {
    int i = 0;
    while (i < PTQ_RANDOM_KINDS && strcmp(kinds[i], text_of(item)) != 0) i++;
    if (i == PTQ_RANDOM_KINDS)
      PTQ_TRY(PTQ_YAML_FAIL(src->path, item, err, PTQ_E_ARG,
                            "unknown random direction '%s'; gaussian:layer, "
                            "gaussian:row, uniform:layer or uniform:row",
                            text_of(item)));
    out->random[i] = true;
  }
done:
  return rc;
}

/* Displacements by name, in the place of `rtn`. */
static ptq_status read_methods(const ptq_spec_source *src,
                               const ptq_yaml_node *map,
                               const ptq_yaml_node *node,
                               ptq_landscape_spec *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_yaml_node *item = NULL, *rtn = ptq_yaml_get(map, "rtn");
  int64_t n = 0;
  if (rtn != NULL)
    PTQ_TRY(PTQ_YAML_FAIL(src->path, rtn, err, PTQ_E_ARG,
                          "landscape: 'rtn' is one of 'methods'; give one of "
                          "the two keys"));
  PTQ_TRY(ptq_spec_items(src, node, "methods", &item, &n, err));
  out->rtn = out->gptq = false;
  for (; n > 0; n--, item = item->next) {
    const bool rounds = strcmp(text_of(item), "rtn") == 0;
    if (!rounds && strcmp(text_of(item), "gptq") != 0)
      PTQ_TRY(PTQ_YAML_FAIL(src->path, item, err, PTQ_E_ARG,
                            "a landscape has displacements of 'rtn' and "
                            "'gptq', not of '%s'",
                            text_of(item)));
    *(rounds ? &out->rtn : &out->gptq) = true;
  }
done:
  return rc;
}

/* Dtypes of the grid, as it spells them. */
static ptq_status read_sensitivity(const ptq_spec_source *src,
                                   const ptq_yaml_node *node, ptq_spec *out,
                                   ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_yaml_node *item = NULL;
  int64_t n = 0;
  PTQ_TRY(ptq_spec_items(src, node, "sensitivity", &item, &n, err));
  PTQ_TRY(ptq_alloc(&out->landscape.sensitivity, out->n_dtypes,
                    sizeof *out->landscape.sensitivity, "dtypes", err));
  for (; n > 0; n--, item = item->next) {
    const char *text = text_of(item);
    int64_t i = 0;
    while (i < out->n_dtypes && strcmp(out->dtypes[i].name, text) != 0 &&
           !ptq_mixture_is_called(out->dtypes[i].name, text))
      i++;
    if (i == out->n_dtypes)
      PTQ_TRY(PTQ_YAML_FAIL(src->path, item, err, PTQ_E_ARG,
                            "sensitivity to '%s': not a dtype of the grid; "
                            "add it there, spelled alike",
                            text));
    out->landscape.sensitivity[i] = true;
  }
done:
  return rc;
}

/* A count that may be left out. */
static ptq_status read_count(const ptq_spec_source *src,
                             const ptq_yaml_node *map, const char *key,
                             int64_t least, int64_t most, int64_t *out,
                             ptq_err *err) {
  if (ptq_yaml_get(map, key) == NULL) return PTQ_OK;
  return ptq_spec_count(src, map, "landscape", key, least, most, out, err);
}

static ptq_status read_radius(const ptq_spec_source *src,
                              const ptq_yaml_node *map, const char *key,
                              double *out, ptq_err *err) {
  const ptq_yaml_node *node = ptq_yaml_get(map, key);
  if (node == NULL) return PTQ_OK;
  const ptq_status rc = ptq_yaml_double(src->path, node, out, err);
  if (rc != PTQ_OK) return rc;
  if (*out >= 1e-9 && *out <= 1e6) return PTQ_OK;
  return PTQ_YAML_FAIL(src->path, node, err, PTQ_E_ARG,
                       "'%s' must be 1e-9 to 1e6, a length over that of the "
                       "weights, got %g",
                       key, *out);
}

static ptq_status read_counts(const ptq_spec_source *src,
                              const ptq_yaml_node *node, ptq_landscape_spec *l,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(read_count(src, node, "directions", 0, DIRECTIONS_MOST,
                     &l->directions, err));
  PTQ_TRY(read_count(src, node, "radii", 2, RADII_MOST, &l->radii, err));
  PTQ_TRY(read_count(src, node, "probes", 1, PROBES_MOST, &l->probes, err));
  PTQ_TRY(read_count(src, node, "lanczos", 1, LANCZOS_MOST, &l->lanczos, err));
  PTQ_TRY(read_count(src, node, "starts", 1, LANCZOS_MOST, &l->starts, err));
  PTQ_TRY(read_radius(src, node, "smallest", &l->smallest, err));
  PTQ_TRY(read_radius(src, node, "largest", &l->largest, err));
  if (l->smallest >= l->largest)
    PTQ_TRY(PTQ_YAML_FAIL(src->path, node, err, PTQ_E_ARG,
                          "landscape: 'smallest' (%g) must be below 'largest' "
                          "(%g)",
                          l->smallest, l->largest));
done:
  return rc;
}

/* Nothing of what only the full landscape takes in another. */
static ptq_status check_use(const ptq_spec_source *src,
                            const ptq_yaml_node *node,
                            const ptq_landscape_spec *l, ptq_err *err) {
  static const char *const full[] = {"probes", "lanczos", "starts"};
  for (int i = 0; i < 3; i++) {
    const ptq_yaml_node *m = ptq_yaml_get(node, full[i]);
    if (m != NULL && l->mode != PTQ_LANDSCAPE_FULL)
      return PTQ_YAML_FAIL(src->path, m, err, PTQ_E_ARG,
                           "'%s' is of the Hessian, which only 'mode: full' "
                           "measures",
                           full[i]);
  }
  const ptq_yaml_node *s = ptq_yaml_get(node, "sensitivity");
  if (s != NULL && l->mode == PTQ_LANDSCAPE_OFF)
    return PTQ_YAML_FAIL(src->path, s, err, PTQ_E_ARG,
                         "'sensitivity' is of a landscape, whose mode is "
                         "'off'; choose 'radial' or 'full'");
  if (l->mode == PTQ_LANDSCAPE_RADIAL && !l->rtn && !l->gptq &&
      l->directions == 0 && s == NULL)
    return PTQ_YAML_FAIL(src->path, node, err, PTQ_E_ARG,
                         "landscape: no directions at all; raise 'directions' "
                         "or set 'rtn: true'");
  return PTQ_OK;
}

static ptq_status read_landscape(const ptq_spec_source *src,
                                 const ptq_yaml_node *node, ptq_spec *out,
                                 ptq_err *err) {
  static const char *const known[] = {
      "mode",        "directions", "random",   "rtn",     "methods",
      "sensitivity", "radii",      "smallest", "largest", "probes",
      "lanczos",     "starts",     NULL};
  ptq_status rc = PTQ_OK;
  ptq_landscape_spec *l = &out->landscape;
  const ptq_yaml_node *mode = NULL, *m;
  if (node->kind == PTQ_YAML_SCALAR) return read_mode(src, node, &l->mode, err);
  PTQ_TRY(ptq_spec_check_map(src, node, "landscape", known, err));
  PTQ_TRY(ptq_spec_member(src, node, "landscape", "mode", &mode, err));
  PTQ_TRY(read_mode(src, mode, &l->mode, err));
  if ((m = ptq_yaml_get(node, "rtn")) != NULL)
    PTQ_TRY(ptq_yaml_bool(src->path, m, &l->rtn, err));
  if ((m = ptq_yaml_get(node, "methods")) != NULL)
    PTQ_TRY(read_methods(src, node, m, l, err));
  if ((m = ptq_yaml_get(node, "sensitivity")) != NULL)
    PTQ_TRY(read_sensitivity(src, m, out, err));
  if ((m = ptq_yaml_get(node, "random")) != NULL)
    PTQ_TRY(read_random(src, m, l, err));
  PTQ_TRY(read_counts(src, node, l, err));
  PTQ_TRY(check_use(src, node, l, err));
done:
  return rc;
}

ptq_status ptq_spec_read_measure(const ptq_spec_source *src,
                                 const ptq_yaml_node *node, ptq_spec *out,
                                 ptq_err *err) {
  static const char *const known[] = {"spectra", "landscape", NULL};
  ptq_status rc = PTQ_OK;
  const ptq_yaml_node *m;
  out->spectra = PTQ_SPECTRA_FULL;
  out->landscape = defaults;
  if (node == NULL) return PTQ_OK;
  PTQ_TRY(ptq_spec_check_map(src, node, "measure", known, err));
  if ((m = ptq_yaml_get(node, "spectra")) != NULL)
    PTQ_TRY(read_spectra(src, m, out, err));
  if ((m = ptq_yaml_get(node, "landscape")) != NULL)
    PTQ_TRY(read_landscape(src, m, out, err));
done:
  return rc;
}
