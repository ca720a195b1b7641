/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Answers as columns and rows of the store. */
#include <math.h>

#include "request_states.h"

bool ptq_answers_finite(const ptq_answer *a, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (!isfinite(a[i].logp)) return false;
  return true;
}

static void put(ptq_share share, double *value, double *se) {
  *value = share.value;
  *se = share.se;
}

void ptq_answers_summarize(const ptq_answer *own, const ptq_answer *ref,
                           int64_t n, ptq_point_row *row) {
  if (n == 0) return;
  put(ptq_share_right(own, n, PTQ_PER_CHOICE), &row->accuracy,
      &row->accuracy_se);
  put(ptq_share_right(own, n, PTQ_PER_CHARACTER), &row->accuracy_norm,
      &row->accuracy_norm_se);
  put(ptq_share_right(own, n, PTQ_PER_BYTE), &row->accuracy_byte,
      &row->accuracy_byte_se);
  put(ptq_share_right(own, n, PTQ_PER_TOKEN), &row->accuracy_token,
      &row->accuracy_token_se);
  put(ptq_share_right_difference(own, ref, n, PTQ_PER_CHOICE), &row->daccuracy,
      &row->daccuracy_se);
  put(ptq_share_right_difference(own, ref, n, PTQ_PER_CHARACTER),
      &row->daccuracy_norm, &row->daccuracy_norm_se);
  put(ptq_share_flipped(own, ref, n, PTQ_PER_CHOICE), &row->flips,
      &row->flips_se);
  put(ptq_share_flipped(own, ref, n, PTQ_PER_CHARACTER), &row->flips_norm,
      &row->flips_norm_se);
}

void ptq_answers_summarize_baseline(const ptq_answer *a, int64_t n,
                                    ptq_model_row *row) {
  row->n_requests = n;
  if (n == 0) return;
  put(ptq_share_right(a, n, PTQ_PER_CHOICE), &row->accuracy, &row->accuracy_se);
  put(ptq_share_right(a, n, PTQ_PER_CHARACTER), &row->accuracy_norm,
      &row->accuracy_norm_se);
  put(ptq_share_right(a, n, PTQ_PER_BYTE), &row->accuracy_byte,
      &row->accuracy_byte_se);
  put(ptq_share_right(a, n, PTQ_PER_TOKEN), &row->accuracy_token,
      &row->accuracy_token_se);
}

void ptq_answers_rows(const ptq_answer *a, int64_t n, int64_t point,
                      ptq_answer_row *rows) {
  for (int64_t i = 0; i < n; i++)
    rows[i] = (ptq_answer_row){.point = point,
                               .request = i,
                               .choice = a[i].choice[PTQ_PER_CHOICE],
                               .choice_norm = a[i].choice[PTQ_PER_CHARACTER],
                               .choice_byte = a[i].choice[PTQ_PER_BYTE],
                               .choice_token = a[i].choice[PTQ_PER_TOKEN],
                               .logp = a[i].logp,
                               .margin = a[i].margin};
}

void ptq_answers_baseline_rows(const ptq_answer *a, const ptq_requests *r,
                               int64_t subject, ptq_baseline_answer_row *rows) {
  for (int64_t i = 0; i < r->n; i++)
    rows[i] =
        (ptq_baseline_answer_row){.subject = subject,
                                  .request = i,
                                  .choices = r->first[i + 1] - r->first[i],
                                  .right = a[i].right,
                                  .choice = a[i].choice[PTQ_PER_CHOICE],
                                  .choice_norm = a[i].choice[PTQ_PER_CHARACTER],
                                  .choice_byte = a[i].choice[PTQ_PER_BYTE],
                                  .choice_token = a[i].choice[PTQ_PER_TOKEN],
                                  .logp = a[i].logp,
                                  .margin = a[i].margin};
}
