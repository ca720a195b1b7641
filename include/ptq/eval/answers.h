/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file answers.h
 * Which choice of a question a model takes, and how often it is right.
 */
#ifndef PTQ_EVAL_ANSWERS_H
#define PTQ_EVAL_ANSWERS_H

#include <stdbool.h>
#include <stdint.h>

/** By what a choice's log-likelihood is divided before they are compared. */
typedef enum ptq_per {
  PTQ_PER_CHOICE, /* nothing: lm-eval's acc */
  PTQ_PER_CHARACTER,
  PTQ_PER_BYTE,
  PTQ_PER_TOKEN,
  PTQ_PER_COUNT
} ptq_per;

/** A choice under a model. */
typedef struct ptq_scored_choice {
  double logp; /* log-likelihood, nats */
  bool greedy; /* each of its tokens is the most probable one */
  int64_t length[PTQ_PER_COUNT]; /* what logp is divided by */
} ptq_scored_choice;

typedef struct ptq_answer {
  int64_t choice[PTQ_PER_COUNT]; /* the first of the largest; a question of a
                                    single choice: 0 where greedy, else 1 */
  int64_t right;
  double logp;   /* of the right choice; NaN where any is not finite */
  double margin; /* less the largest of the others; NaN without others */
} ptq_answer;

/** The model's answer to a question of n choices. */
ptq_answer ptq_answer_of(const ptq_scored_choice *choices, int64_t n,
                         int64_t right);

/** A share of n questions, or a mean difference, with its standard error. */
typedef struct ptq_share {
  double value, se; /* se: standard deviation (n - 1) over sqrt(n); NaN where
                       n < 2 */
} ptq_share;

/** How often answers are right. */
ptq_share ptq_share_right(const ptq_answer *a, int64_t n, ptq_per per);
/** Accuracy of `a` less that of `b` on the same questions, paired. */
ptq_share ptq_share_right_difference(const ptq_answer *a, const ptq_answer *b,
                                     int64_t n, ptq_per per);
/** How often the choices of `a` and `b` differ. */
ptq_share ptq_share_flipped(const ptq_answer *a, const ptq_answer *b, int64_t n,
                            ptq_per per);

#endif /* PTQ_EVAL_ANSWERS_H */
