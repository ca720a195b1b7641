/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "arch.h"

#include <string.h>

#include "ptq/base/text.h"

extern const ptq_arch ptq_arch_bloom;
extern const ptq_arch ptq_arch_falcon;
extern const ptq_arch ptq_arch_gemma;
extern const ptq_arch ptq_arch_gemma2;
extern const ptq_arch ptq_arch_gemma3;
extern const ptq_arch ptq_arch_gpt2;
extern const ptq_arch ptq_arch_gpt_neox;
extern const ptq_arch ptq_arch_llama;
extern const ptq_arch ptq_arch_mistral;
extern const ptq_arch ptq_arch_mixtral;
extern const ptq_arch ptq_arch_olmo;
extern const ptq_arch ptq_arch_olmo2;
extern const ptq_arch ptq_arch_olmoe;
extern const ptq_arch ptq_arch_opt;
extern const ptq_arch ptq_arch_phi;
extern const ptq_arch ptq_arch_phi3;
extern const ptq_arch ptq_arch_qwen2;
extern const ptq_arch ptq_arch_qwen3;
extern const ptq_arch ptq_arch_qwen3_moe;
extern const ptq_arch ptq_arch_smollm3;

static const ptq_arch *const archs[] = {
    &ptq_arch_bloom,     &ptq_arch_falcon,  &ptq_arch_gemma,
    &ptq_arch_gemma2,    &ptq_arch_gemma3,  &ptq_arch_gpt2,
    &ptq_arch_gpt_neox,  &ptq_arch_llama,   &ptq_arch_mistral,
    &ptq_arch_mixtral,   &ptq_arch_olmo,    &ptq_arch_olmo2,
    &ptq_arch_olmoe,     &ptq_arch_opt,     &ptq_arch_phi,
    &ptq_arch_phi3,      &ptq_arch_qwen2,   &ptq_arch_qwen3,
    &ptq_arch_qwen3_moe, &ptq_arch_smollm3, NULL,
};

const ptq_arch *const *ptq_archs(void) {
  return archs;
}

static ptq_status unknown(const ptq_config *c, const char *type, ptq_err *err) {
  ptq_text known = {0};
  for (int i = 0; archs[i] != NULL; i++)
    ptq_text_addf(&known, "%s%s", i > 0 ? ", " : "", archs[i]->model_type);
  const ptq_status rc =
      PTQ_FAIL(err, PTQ_E_UNSUPPORTED,
               "'%s': model_type '%.40s' is not known; known: %s",
               ptq_config_path(c), type, ptq_text_str(&known));
  ptq_text_release(&known);
  return rc;
}

ptq_status ptq_arch_find(const ptq_config *c, const ptq_arch **out,
                         ptq_err *err) {
  const char *type = NULL;
  *out = NULL;
  const ptq_status rc = ptq_config_text(c, "model_type", &type, err);
  if (rc != PTQ_OK) return rc;
  if (type == NULL)
    return PTQ_FAIL(err, PTQ_E_FORMAT, "'%s' has no 'model_type'",
                    ptq_config_path(c));
  for (int i = 0; archs[i] != NULL && *out == NULL; i++)
    if (strcmp(archs[i]->model_type, type) == 0) *out = archs[i];
  if (*out == NULL) return unknown(c, type, err);
  if (ptq_config_has(c, "architectures") &&
      !ptq_config_list_has(c, "architectures", (*out)->class_name))
    return ptq_config_refuse(c, "architectures", (*out)->class_name, err);
  return PTQ_OK;
}
