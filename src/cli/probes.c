/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Mixtures that tell how sensitive layers are. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "allocation.h"
#include "ptq/base/yaml.h"

/* What the whole model loses in the coarse format, about: enough to see of one
 * layer, not so much that errors stop adding up. */
static const double wanted_loss = 0.2;
/* Of all other layers, so that they add next to nothing. */
static const char fine_dtype[] = "int8";
enum { FINE_GROUP = 32 };

/* The model's uniform point, of any method, whose loss is nearest to what is
 * wanted. */
static const ptq_obs *choose(const ptq_allocation_task *task,
                             const char *model) {
  const ptq_frame *f = task->store.frame;
  const ptq_obs *best = NULL;
  double least = INFINITY;
  for (int64_t i = 0; i < f->n; i++) {
    const ptq_obs *o = &f->obs[i];
    if (o->use != PTQ_USE_OK || ptq_obs_is_mixed(o) ||
        strcmp(o->point->model, model) != 0 || o->n_layers == 0)
      continue;
    const double dnll = o->point->dnll;
    const double off = dnll > 0.0 ? fabs(log(dnll / wanted_loss)) : INFINITY;
    if (!(off < least)) continue;
    least = off;
    best = o;
  }
  return best;
}

/* From the number of the block on: "0.self_attn.q_proj.weight". */
static const char *from_block(const char *tensor) {
  for (const char *at = tensor; *at != '\0'; at++)
    if (isdigit((unsigned char)*at) && (at == tensor || at[-1] == '.'))
      return at;
  return tensor;
}

/* Bytes of a tensor's name with its block's number and the dot behind it. */
static size_t block_prefix(const char *tensor) {
  const char *at = from_block(tensor);
  const char *dot = strchr(at, '.');
  return dot != NULL ? (size_t)(dot - tensor) + 1 : strlen(tensor);
}

static void add_probe(const char *model, const char *name, const char *pattern,
                      const ptq_point_row *coarse, ptq_text *out) {
  ptq_text_add(out, "- mixed: ");
  ptq_yaml_scalar(name, out);
  ptq_text_add(out, "\n  default: ");
  ptq_format_yaml(fine_dtype, FINE_GROUP, out);
  ptq_text_add(out, "\n  layers: {");
  ptq_yaml_scalar(pattern, out);
  ptq_text_add(out, ": ");
  ptq_format_yaml(coarse->dtype, coarse->group, out);
  ptq_text_add(out, "}\n  models: ");
  ptq_yaml_scalar(model, out);
  ptq_text_add(out, "\n");
}

/* Mixtures have names of at most so many letters. */
enum { NAME_MAX_LETTERS = 40 };

static void probe_layer(const char *model, const char *tensor, int64_t index,
                        const ptq_point_row *coarse, ptq_text *out) {
  char name[160];
  (void)snprintf(name, sizeof name, PTQ_PROBE_PREFIX "%s", from_block(tensor));
  char *end = strstr(name, ".weight");
  if (end != NULL && end[sizeof ".weight" - 1] == '\0') *end = '\0';
  if (strlen(name) > NAME_MAX_LETTERS)
    (void)snprintf(name, sizeof name, PTQ_PROBE_PREFIX "layer%lld",
                   (long long)index);
  add_probe(model, name, tensor, coarse, out);
}

static void probe_block(const char *model, const char *tensor,
                        const ptq_point_row *coarse, ptq_text *out) {
  char name[160], pattern[200];
  const char *at = from_block(tensor);
  (void)snprintf(name, sizeof name, PTQ_PROBE_PREFIX "%.*s",
                 (int)(block_prefix(tensor) - (size_t)(at - tensor)) - 1, at);
  (void)snprintf(pattern, sizeof pattern, "%.*s*", (int)block_prefix(tensor),
                 tensor);
  add_probe(model, name, pattern, coarse, out);
}

static bool same_block(const char *a, const char *b) {
  const size_t n = block_prefix(a);
  return n == block_prefix(b) && strncmp(a, b, n) == 0;
}

ptq_status ptq_model_probes(const ptq_allocation_task *task, const char *model,
                            bool blocks, ptq_text *out, int64_t *n,
                            ptq_err *err) {
  const ptq_obs *o = choose(task, model);
  *n = 0;
  if (o == NULL)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "model '%s' has no finished uniform point that lost "
                    "anything and has not collapsed; run some of its sweep "
                    "first",
                    model);
  const ptq_layer_row *row =
      task->store.layers + task->store.first_layer[o - task->store.frame->obs];
  for (int64_t l = 0; l < o->n_layers; l++) {
    if (blocks && l > 0 && same_block(row[l].layer, row[l - 1].layer)) continue;
    if (blocks)
      probe_block(model, row[l].layer, o->point, out);
    else
      probe_layer(model, row[l].layer, l, o->point, out);
    ++*n;
  }
  return PTQ_OK;
}
