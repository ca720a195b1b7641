/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file cost.h
 * What points cost, how they are packed into batches, and in which order.
 */
#ifndef PTQ_SWEEP_COST_H
#define PTQ_SWEEP_COST_H

#include "ptq/sweep/grid.h"

/** Seconds a FLOP etc.; corrected by finished items. */
typedef struct ptq_rates {
  double flops_per_s; /* of one rank */
  double correction;  /* measured over predicted seconds, starts at 1 */
} ptq_rates;

/** A unit of work that rank 0 hands out. */
/** When an item is handed out: a turn ends before the next one begins. Of a
 * sweep cut short the baselines are there, without which no point can be
 * judged, and then as many points as there was time for. */
typedef enum ptq_turn {
  PTQ_TURN_BASELINE, /* a model's baseline and spectra */
  PTQ_TURN_MAIN,     /* points, and what is too long to come late */
  PTQ_TURN_LATE,     /* directions of landscapes */
  PTQ_TURN_COUNT
} ptq_turn;

typedef struct ptq_item {
  int64_t subject;  /* n == 0: the number of a model's own item (baseline and
                       spectra, or a direction of its landscape; grid.h) */
  int64_t first, n; /* into ptq_plan.order: the batch's points */
  double seconds;   /* predicted */
  ptq_turn turn;
} ptq_item;

typedef struct ptq_plan {
  ptq_item *items; /* owned; by turn, then longest first */
  int64_t n_items;
  int64_t *order; /* owned; [number of points to do] */
  int64_t n_order;
  double seconds_total; /* of one rank */
  int64_t memory_bytes; /* largest item, of one rank */
} ptq_plan;

/** How a point that is to do may be run. */
enum { PTQ_TODO_ANY = 1, PTQ_TODO_ALONE = 2 };

/** Rates of a machine nothing is known about: 50 GFLOP/s a rank. */
ptq_rates ptq_rates_default(void);

/** How many times as fast a rank of so many threads is. */
double ptq_threads_speedup(int threads);
/** The same of all who work on one of its items: threads of ranks. */
double ptq_grid_speedup(const ptq_grid *g);

/** FLOPs of one point beside what its batch shares, of what it shares, and of
 * a subject's own item (baseline, spectra). Memory-bound work counts as the
 * FLOPs that take as long (src/sweep/cost.c). */
double ptq_point_flops(const ptq_grid *g, int64_t point);
double ptq_shared_flops(const ptq_grid *g, int64_t subject);
double ptq_subject_flops(const ptq_grid *g, int64_t subject);
/** What the points of a batch ask of a rank's memory. */
typedef struct ptq_load {
  int64_t points;
  int64_t statics;        /* of them, that want the unquantized model's H */
  int64_t sequential;     /* with Hessians of their own */
  int64_t smallest_group; /* of the groups that are a number; 0: none */
  unsigned needs;         /* PTQ_NEED_... bits of the others */
  unsigned own_needs;     /* of the sequential ones */
  uint64_t methods;       /* bits, modulo 64, of static methods: each may keep
                             factors of its own */
  bool own_factors;       /* a sequential one has factors beside its H */
  bool spent;             /* the only point, static, factorizes in place of H */
  int64_t tuned;          /* with a stream of their own and no H */
  double tuning_bytes;    /* most that one takes while it tunes a block */
  bool backward;          /* a method takes sites from the last to the first */
  double method_bytes[PTQ_SITE_COUNT]; /* most that a method takes for itself at
                                          a kind of site */
} ptq_load;
void ptq_load_add(ptq_load *l, const ptq_grid *g, int64_t point);
/** Bytes that a batch of such points of a subject takes at most; and a
 * subject's own item. */
int64_t ptq_batch_bytes(const ptq_grid *g, int64_t subject, const ptq_load *l);
int64_t ptq_subject_bytes(const ptq_grid *g, int64_t subject);
/** The same of a model's own item, by its number. */
double ptq_own_flops(const ptq_grid *g, int64_t own);
int64_t ptq_own_bytes(const ptq_grid *g, int64_t own);
/** "4GB" (10^9), "4GiB" or "4G" (2^30), "2e9" bytes; PTQ_E_ARG. */
ptq_status ptq_bytes_parse(const char *text, int64_t *out, ptq_err *err);
/** "1.5 GiB" */
void ptq_bytes_name(int64_t bytes, char name[24]);

/**
 * Pack what is to do into batches: width the least of what memory allows,
 * ten minutes of work, and what leaves every rank four batches; by turn, then
 * longest first. A direction waits for the points unless it is longer than a
 * fiftieth of all work shared evenly, as then it would delay the end.
 * Pure: equal arguments give equal plans.
 * @param todo_points   [n_points] nonzero: do it; PTQ_TODO_ALONE: in an item of
 * its own, because a rank died while running it
 * @param todo_subjects [ptq_grid_own] models' own items
 * @param memory        bytes a rank; 0: no limit
 * @param rates         NULL: ptq_rates_default()
 * @return PTQ_E_ARG when a single point or a subject's own item exceeds
 *         `memory` (with the number); *out is released then
 */
ptq_status ptq_plan_build(const ptq_grid *g, const unsigned char *todo_points,
                          const unsigned char *todo_subjects, int n_workers,
                          int64_t memory, const ptq_rates *rates, ptq_plan *out,
                          ptq_err *err);
void ptq_plan_release(ptq_plan *p);
/** Makespan of the plan on n workers, each of whom takes the next item when it
 * is free, seconds. */
double ptq_plan_makespan(const ptq_plan *p, int n_workers);

#endif /* PTQ_SWEEP_COST_H */
