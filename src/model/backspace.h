/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file backspace.h
 * Scratch of tangent and backward passes. Lane 0 is the window's own, lanes
 * 1..k are those of its tangents along directions: what a place holds in lane
 * 0, it holds the tangent of in the others.
 */
#ifndef PTQ_MODEL_BACKSPACE_H
#define PTQ_MODEL_BACKSPACE_H

#include "op.h"
#include "tape.h"

/** Keys that a tile meets at once in derivatives, which have five such tiles
 * in cache. */
enum { PTQ_BACK_KEYS = 256 };

/** Places of a lane. A name with D is the derivative of the loss by what the
 * name without it holds. */
typedef enum ptq_place {
  /* On the tape. */
  PTQ_AT_H,
  PTQ_AT_RAW, /* q, k and v as the linear layers give them */
  PTQ_AT_MIX,
  PTQ_AT_ATTN_ADD,
  PTQ_AT_MID,
  PTQ_AT_GATE,
  PTQ_AT_UP,
  PTQ_AT_GIVEN, /* what experts give, before their weights */
  PTQ_AT_MLP_ADD,
  PTQ_AT_END,
  /* One of two others. */
  PTQ_AT_STREAM, /* between the halves: MID or, behind a norm, SUM */
  PTQ_AT_IN,     /* a half's input: X, or the stream itself without a norm */
  PTQ_AT_DH,     /* the caller's */
  /* Scratch [n, d_model] */
  PTQ_AT_SUM,
  PTQ_AT_X,
  PTQ_AT_DX,
  PTQ_AT_ADD, /* what a half adds */
  PTQ_AT_DADD,
  /* q, k and v as attention takes them; DQ, DK and DV point into DREADY. */
  PTQ_AT_READY,
  PTQ_AT_DREADY,
  PTQ_AT_DQ,
  PTQ_AT_DK,
  PTQ_AT_DV,
  PTQ_AT_DMIX,
  /* [n, d_ff] */
  PTQ_AT_WIDE,
  PTQ_AT_DWIDE,
  PTQ_AT_DGATE, /* [n, 2 d_ff] where gate and up are one */
  PTQ_AT_DUP,
  /* Of a mixture: the tokens of the expert at hand [n, d_model], and all
   * tokens' odds [n, n_experts]. */
  PTQ_AT_MEMBER_IN,
  PTQ_AT_MEMBER_GIVEN, /* points into GIVEN */
  PTQ_AT_MEMBER_DX,
  PTQ_AT_MEMBER_DGIVEN,
  PTQ_AT_ODDS,
  PTQ_AT_DODDS,
  PTQ_PLACES
} ptq_place;

typedef struct ptq_lane {
  ptq_real *at[PTQ_PLACES];
  ptq_real *top, *share;    /* ptq_soft of the tape */
  ptq_inner inner;          /* of the tape, from the first row on */
  ptq_inner dinner;         /* of the MLP at hand */
  const ptq_real *const *e; /* displacements by layer; NULL in lane 0 */
  ptq_real *const *g;       /* derivatives by layer; may be NULL */
  ptq_tape spare;           /* room for all that a tape may hold */
  /* Attention, one tile: rows [rows, d_head] of queries, of the derivative of
   * the result (in ptq_attention_jvp, of its tangent), of the derivative of
   * the queries; and a sum of each row. */
  ptq_real *tile_q, *tile_out, *tile_dq;
  double *tile_sum;
} ptq_lane;

struct ptq_backspace {
  int64_t max_tokens, max_tangents;
  ptq_workspace *ws;      /* owned */
  ptq_real *memory;       /* owned; what the lanes point into */
  double *sums;           /* owned; likewise */
  ptq_lane *lanes;        /* owned; [1 + max_tangents] */
  ptq_attended *attended; /* owned; likewise */
  ptq_real **out;         /* owned; likewise: what tangents become */
  /* Attention: tiles [rows, PTQ_BACK_KEYS]. */
  ptq_real *tile_p;   /* probabilities, but for the factor ptq_soft.share */
  ptq_real *tile_t;   /* dp less its mean */
  ptq_real *tile_ds;  /* derivatives of scores */
  ptq_real *tile_sd;  /* tangents of scores, then of probabilities */
  ptq_real *tile_dsd; /* tangents of derivatives of scores */
  ptq_real *route;    /* [max_tokens + 1, n_experts] of a mixture */
  /* With capped scores: the capped ones, their tangents and derivatives. */
  ptq_real *tile_cap, *tile_capd, *tile_dcap;
};

/** One window and k directions on their way through a block. */
typedef struct ptq_crossing {
  const ptq_model_info *info; /* borrowed, as all */
  const ptq_block *b;
  int64_t n, k;
  ptq_backspace *bs;
} ptq_crossing;

/* What both passes compute anew of all lanes (crossing.c). */

/** IN of the attention half: norm(H), or H. */
void ptq_cross_attention_input(const ptq_crossing *c);
/** READY of RAW. */
void ptq_cross_ready(const ptq_crossing *c);
/** READY of RAW in lane 0, keys not rotated yet. */
void ptq_cross_normed(const ptq_crossing *c);
/** STREAM from MID, then IN of the MLP half. */
void ptq_cross_mlp_input(const ptq_crossing *c);
/** An MLP on its way: the only one on all tokens, or an expert on its members;
 * their inner activations stand on the tape from row `first` on. */
typedef struct ptq_mlp {
  int expert;
  int64_t first, rows;
} ptq_mlp;
/** WIDE of the inner activations. */
void ptq_cross_activation(const ptq_crossing *c, const ptq_mlp *m);
/** ODDS of IN, and in the workspace what each token chooses. */
void ptq_cross_route(const ptq_crossing *c);
/** Expert `e` behind the one before it (`m`, which begins with expert -1, row
 * 0 and no rows): its MEMBER_IN and MEMBER_GIVEN. */
void ptq_cross_expert(const ptq_crossing *c, int e, ptq_mlp *m);
/** The inner activations of a lane that belong to an MLP. */
ptq_inner ptq_cross_inner(const ptq_lane *lane, const ptq_mlp *m);
/** What attention needs to know of all lanes, in bs->attended. */
void ptq_cross_attended(const ptq_crossing *c);

/** Set all lanes up: lane 0 for a tape that holds everything, the others for
 * tangents with what they keep, or their spare. */
void ptq_cross_begin(const ptq_crossing *c, const ptq_tape *t,
                     const ptq_tangent *tangents);
/** Tangents of a block's pass: fills the tapes of lanes 1..k from their H, and
 * where `out`, [k], is not NULL what the block gives. */
void ptq_cross_tangents(const ptq_crossing *c, ptq_real *const *out);

#endif /* PTQ_MODEL_BACKSPACE_H */
