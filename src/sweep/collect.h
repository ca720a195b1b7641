/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file collect.h
 * The inputs of a block's sites over a text: second moments and what
 * PTQ_NEED_... bits ask for, and the errors that other weights make on them.
 *
 * Where a site sees fewer tokens than it is wide, its rows are kept instead of
 * summed (ptq_collect_keeps): they take less room than a moment, and errors
 * are products with fewer operations. A moment is made of them when a method
 * wants it, one site at a time, from the same products in the same order.
 * That choice hangs on the model and the text alone, so bits do too.
 *
 * In a team the ranks keep rows of their own windows, and share what is summed.
 */
#ifndef PTQ_SWEEP_COLLECT_H
#define PTQ_SWEEP_COLLECT_H

#include "kept.h"
#include "ptq/model/forward.h"
#include "ptq/num/moment.h"
#include "ptq/quant/method.h"
#include "site_moments.h"

/** What is wanted of a text. */
enum {
  PTQ_COLLECT_MOMENTS = 1, /* ptq_collected_site */
  PTQ_COLLECT_ERRORS = 2   /* ptq_collected_error */
};

/** Scratch of a thread that collects. */
typedef struct ptq_collect_scratch {
  float *moment;     /* owned; of ptq_moment_product, where there are sums */
  float *product;    /* owned; [widest, widest], for `cross` */
  float *difference; /* owned; [most rows, widest], for `cross` */
} ptq_collect_scratch;

typedef struct ptq_collected {
  const ptq_model_info *info; /* borrowed */
  ptq_room room;
  unsigned uses, needs;          /* PTQ_COLLECT_... and PTQ_NEED_... bits */
  int64_t n, n_train, length;    /* windows; those before the holdout */
  bool keeps[PTQ_SITE_COUNT];    /* by kind */
  ptq_kept kept[PTQ_SITE_COUNT]; /* owned; rows of kinds that keep */
  ptq_kept reference[PTQ_SITE_COUNT]; /* owned; for `cross`: the unquantized
                                         model's rows; where a kind does not
                                         keep, of the windows in hand only */
  ptq_site_moments *sums; /* owned; [sites]: empty of kinds that keep */
  float **h32;            /* owned; [sites] of kinds that do not, for errors;
                             shared in a team */
  ptq_site_moments built; /* owned; of the kept site at hand */
  int built_site;         /* -1: none */
  int64_t built_d;        /* width that `built` has room for */
  ptq_collect_scratch *scratch; /* owned; [room.hands] */
  ptq_site first, last;         /* kinds that the pass at hand collects */
} ptq_collected;

/** Whether a kind of site keeps the rows of a text of so many tokens. */
bool ptq_collect_keeps(const ptq_model_info *info, ptq_site kind,
                       int64_t n_tokens);

/** Room for n windows of `length` tokens. */
ptq_status ptq_collected_open(ptq_collected *c, const ptq_model_info *info,
                              ptq_room room, unsigned uses, unsigned needs,
                              int64_t n, int64_t length, ptq_err *err);
void ptq_collected_close(ptq_collected *c);

/** A window on its way through the block in a thread's hand. */
typedef struct ptq_collector {
  ptq_collected *c; /* borrowed */
  int hand;
  int64_t window;
  ptq_order *order;      /* borrowed; windows add to sums in their turns */
  const int32_t *tokens; /* borrowed; of the expert at hand */
} ptq_collector;

/** A pass over the text for kinds first..last: `push` for every window, on the
 * room's threads; behind the last one the results are there. `push` makes a
 * collector of its arguments and pushes the window through the block with a
 * hook that shows it to it. */
ptq_status ptq_collect_pass(ptq_collected *c, ptq_site first, ptq_site last,
                            ptq_crew_fn *push, void *ctx, ptq_err *err);
/** Before a window. */
ptq_collector ptq_collect_window(ptq_collected *c, int hand, int64_t i,
                                 ptq_order *order);
/** Members of a hook whose ctx is the ptq_collector. */
ptq_status ptq_collect_input(void *collector, int site, const float *x,
                             int64_t n, int64_t width, ptq_err *err);
ptq_status ptq_collect_routed(void *collector, int expert,
                              const int32_t *tokens, int64_t n, ptq_err *err);
/** The same hook over the unquantized model on the same window, which comes
 * first; PTQ_NEED_CROSS. */
ptq_status ptq_collect_reference(void *collector, int site, const float *x,
                                 int64_t n, int64_t width, ptq_err *err);
/** Behind the unquantized model's pass over a window. */
ptq_status ptq_collect_reference_end(const ptq_collector *w, ptq_err *err);
/** Behind the window. */
ptq_status ptq_collect_window_end(const ptq_collector *w, ptq_err *err);

/** A site's moments, borrowed until the next site is asked for;
 * PTQ_COLLECT_MOMENTS. */
ptq_status ptq_collected_site(ptq_collected *c, int site,
                              const ptq_site_moments **out, ptq_err *err);
/** h of the site last asked for was overwritten. */
void ptq_collected_spoil(ptq_collected *c, int site);
/** Tokens that a site saw. */
int64_t ptq_collected_tokens(const ptq_collected *c, int site);
/** What other weights of a layer err: tr(E H E') for e[rows, d], the mean over
 * a site's tokens of |e x|^2; without tokens 0. */
typedef struct ptq_error_job {
  ptq_collected *c; /* borrowed; PTQ_COLLECT_ERRORS */
  int site;
  const float *e; /* borrowed */
  int64_t rows;
  double *out; /* borrowed */
} ptq_error_job;
/** All jobs, on the room's threads.
 * @param scratch [hands] arrays of floats, see ptq_collected_scratch */
ptq_status ptq_collected_errors(const ptq_error_job *jobs, int n,
                                float *const *scratch, ptq_err *err);
int64_t ptq_collected_scratch(const ptq_model_info *info, int64_t n_tokens,
                              int64_t length);
/** Forget the rows of a kind and moments made of them, which nobody asks for
 * any more until the next pass. */
void ptq_collected_drop(ptq_collected *c, ptq_site kind);

/** Bytes, by when they are there. */
typedef struct ptq_collected_size {
  int64_t fixed;                 /* always */
  int64_t sums;                  /* besides, while a text is collected */
  int64_t kept[PTQ_SITE_COUNT];  /* rows of a kind, until it is dropped */
  int64_t built[PTQ_SITE_COUNT]; /* moments made of them, at their turn */
} ptq_collected_size;
ptq_collected_size ptq_collected_bytes(const ptq_model_info *info,
                                       ptq_room room, unsigned uses,
                                       unsigned needs, int64_t n,
                                       int64_t length);

#endif /* PTQ_SWEEP_COLLECT_H */
