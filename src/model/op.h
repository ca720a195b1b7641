/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file op.h
 * The operations of a block and their derivatives. Each stands in a file
 * op_<name>.c with up to four functions side by side:
 *
 *   name           y = f(x)
 *   name_jvp       the tangent yd of y along the tangent xd of x
 *   name_vjp       the derivative dx of a scalar by x from that by y, dy
 *   name_tangent   the tangent dxd of dx from xd and the tangent dyd of dy
 *
 * The last makes exact Hessian-vector products: the tangent of a gradient.
 * forward.c, tangent.c and backward.c compose them to passes through a block.
 * Weights of linear layers may have a tangent (a displacement); gains and
 * biases of norms, biases and embeddings are constants.
 */
#ifndef PTQ_MODEL_OP_H
#define PTQ_MODEL_OP_H

#include "workspace.h"

/* op_linear.c: x[n, in], y[n, out], e[out, in] the weight's displacement, NULL
 * for none; g[out, in], NULL where it is not asked for. */

/** y = x W' in ptq_real. */
void ptq_linear_apply(const ptq_linear *l, const ptq_real *x, int64_t n,
                      ptq_real *y);
/** y = x W' as the workspace's products are made. */
ptq_status ptq_linear_product(const ptq_linear *l, const ptq_real *x, int64_t n,
                              ptq_workspace *ws, ptq_real *y, ptq_err *err);
/** y += bias, if there is one. */
void ptq_linear_bias(const ptq_linear *l, int64_t n, ptq_real *y);
void ptq_linear_jvp(const ptq_linear *l, const ptq_real *e, const ptq_real *x,
                    const ptq_real *xd, int64_t n, ptq_real *yd);
/** dx = dy W + beta dx. */
void ptq_linear_vjp(const ptq_linear *l, const ptq_real *dy, int64_t n,
                    ptq_real beta, ptq_real *dx);
/** g += dy' x. */
void ptq_linear_vjp_weight(const ptq_linear *l, const ptq_real *x,
                           const ptq_real *dy, int64_t n, ptq_real *g);
/** dxd = dyd W + dy e + beta dxd. */
void ptq_linear_tangent(const ptq_linear *l, const ptq_real *e,
                        const ptq_real *dy, const ptq_real *dyd, int64_t n,
                        ptq_real beta, ptq_real *dxd);
/** gd += dyd' x + dy' xd. */
void ptq_linear_tangent_weight(const ptq_linear *l, const ptq_real *x,
                               const ptq_real *xd, const ptq_real *dy,
                               const ptq_real *dyd, int64_t n, ptq_real *gd);

/* op_norm.c: rows of `width`; outputs may be inputs. */

/** y = norm(x). */
void ptq_norm_rows(const ptq_model_info *info, const ptq_norm *norm,
                   const ptq_real *x, int64_t rows, int64_t width, ptq_real *y);
void ptq_norm_jvp(const ptq_model_info *info, const ptq_norm *norm,
                  const ptq_real *x, const ptq_real *xd, int64_t rows,
                  int64_t width, ptq_real *yd);
void ptq_norm_vjp(const ptq_model_info *info, const ptq_norm *norm,
                  const ptq_real *x, const ptq_real *dy, int64_t rows,
                  int64_t width, ptq_real *dx);
void ptq_norm_tangent(const ptq_model_info *info, const ptq_norm *norm,
                      const ptq_real *x, const ptq_real *xd, const ptq_real *dy,
                      const ptq_real *dyd, int64_t rows, int64_t width,
                      ptq_real *dxd);

/** The same of queries (PTQ_NORM_Q) or keys (PTQ_NORM_K), in place: all heads
 * of a token at once or each by itself. Nothing where the block has no such
 * norm. */
void ptq_norm_heads(const ptq_model_info *info, const ptq_block *b,
                    ptq_norm_place place, int64_t n, const ptq_heads *x);
void ptq_norm_heads_jvp(const ptq_model_info *info, const ptq_block *b,
                        ptq_norm_place place, int64_t n, const ptq_heads *x,
                        const ptq_heads *xd);
void ptq_norm_heads_vjp(const ptq_model_info *info, const ptq_block *b,
                        ptq_norm_place place, int64_t n, const ptq_heads *x,
                        const ptq_heads *dy);
void ptq_norm_heads_tangent(const ptq_model_info *info, const ptq_block *b,
                            ptq_norm_place place, int64_t n, const ptq_heads *x,
                            const ptq_heads *xd, const ptq_heads *dy,
                            const ptq_heads *dyd);

/* op_rotation.c: what is linear in queries, keys and values, so that its
 * tangent is itself, and the tangent of its derivative that derivative. */

/** The angles of a block in a window of n tokens, NULL for none. */
const ptq_turns *ptq_turns_of(const ptq_model_info *info, unsigned flags,
                              int64_t n, const ptq_workspace *ws);
/** One head at position `at`: its leading rotary_width elements turned. */
void ptq_rotate(const ptq_model_info *info, const ptq_turns *turns, int64_t at,
                const ptq_real *x, ptq_real *y);
void ptq_rotate_vjp(const ptq_model_info *info, const ptq_turns *turns,
                    int64_t at, const ptq_real *dy, ptq_real *dx);
/** All keys of a sequence that are its own (those it shares are rotated with
 * the branch that holds them), in place; nothing without turns. */
void ptq_rotate_keys(const ptq_model_info *info, const ptq_turns *turns,
                     const ptq_branch *b, const ptq_heads *k);
/** Those of a window of n tokens. */
void ptq_rotate_keys_vjp(const ptq_model_info *info, const ptq_turns *turns,
                         int64_t n, const ptq_heads *dk);
/** Queries, keys and values cut to +-info->qkv_clip, if there is a clip, in
 * place. */
void ptq_clip(const ptq_model_info *info, int64_t n, ptq_real *qkv);
/** Its derivative and its tangent, in place: 0 where `clipped`, its result,
 * stands at the limit. */
void ptq_clip_vjp(const ptq_model_info *info, int64_t n,
                  const ptq_real *clipped, ptq_real *t);

/** From what the linear layers give to what meets, in place: norms of queries
 * and keys, clip, the keys' rotation. */
void ptq_ready(const ptq_model_info *info, const ptq_block *b, int64_t n,
               const ptq_workspace *ws, const ptq_qkv *x);

/* op_attention.c: queries, keys and values behind their norms, keys rotated;
 * queries are rotated on the way. Windows, caps and ALiBi as the block says. */

/** Of each token's heads: the largest score, and 1 / sum exp(score - largest);
 * for a tangent the mean tangent of the scores (in `top`). [n, n_heads] */
typedef struct ptq_soft {
  ptq_real *top, *share;
} ptq_soft;

/** Causal attention of one window, or of each of ws->branches: mix[n, n_heads *
 * d_head]; soft is filled where its members are not NULL. `flags` are the
 * block's. */
ptq_status ptq_attention(const ptq_model_info *info, unsigned flags, int64_t n,
                         const ptq_qkv *x, ptq_workspace *ws, ptq_real *mix,
                         ptq_soft soft, ptq_err *err);

/** One window's attention, or its tangent along a direction. */
typedef struct ptq_attended {
  ptq_qkv x;
  ptq_real *mix;
  ptq_soft soft;
  ptq_real *dmix; /* derivative by mix */
  ptq_qkv dx;     /* derivatives by x */
} ptq_attended;

typedef struct ptq_backspace ptq_backspace;
/** mix and soft.top of k tangents from their x. */
void ptq_attention_jvp(const ptq_model_info *info, unsigned flags, int64_t n,
                       ptq_backspace *bs, const ptq_attended *a, int64_t k,
                       const ptq_attended *tangents);
/** dx of the window and of k tangents. */
void ptq_attention_vjp(const ptq_model_info *info, unsigned flags, int64_t n,
                       ptq_backspace *bs, const ptq_attended *a, int64_t k,
                       const ptq_attended *tangents);

/* op_activation.c: y = act(gate) up, or act(up) without a gate. */

/** The inner activations of an MLP [n, d_ff], or their tangents or
 * derivatives. */
typedef struct ptq_inner {
  ptq_real *gate, *up; /* gate NULL without one */
  int64_t row;         /* from one token to the next */
} ptq_inner;

/** y[n, d_ff] may be x.gate, or x.up without a gate. */
void ptq_activate(const ptq_model_info *info, int64_t n, const ptq_inner *x,
                  ptq_real *y);
void ptq_activate_jvp(const ptq_model_info *info, int64_t n, const ptq_inner *x,
                      const ptq_inner *xd, ptq_real *yd);
void ptq_activate_vjp(const ptq_model_info *info, int64_t n, const ptq_inner *x,
                      const ptq_real *dy, const ptq_inner *dx);
void ptq_activate_tangent(const ptq_model_info *info, int64_t n,
                          const ptq_inner *x, const ptq_inner *xd,
                          const ptq_real *dy, const ptq_real *dyd,
                          const ptq_inner *dxd);

/* op_router.c: a mixture of experts. */

/** chosen, share and odds of each of the n tokens x[n, d_model]. */
ptq_status ptq_route(const ptq_model_info *info, const ptq_linear *router,
                     const ptq_real *x, int64_t n, ptq_workspace *ws,
                     ptq_err *err);
/** The same from the router's scores in ws->odds. */
void ptq_route_scores(const ptq_model_info *info, int64_t n, ptq_workspace *ws);
/** oddsd[n, n_experts] from xd. */
void ptq_route_jvp(const ptq_linear *router, const ptq_real *odds,
                   const ptq_real *xd, int64_t n, ptq_real *oddsd);
/** dx += what comes from dodds[n, n_experts], 0 but for the chosen; dodds is
 * used up. */
void ptq_route_vjp(const ptq_linear *router, const ptq_real *odds, int64_t n,
                   ptq_real *dodds, ptq_real *dx);
/** The same of tangents, doddsd used up; scratch[(n + 1) * n_experts]. */
void ptq_route_tangent(const ptq_linear *router, const ptq_real *odds,
                       const ptq_real *oddsd, const ptq_real *xd,
                       const ptq_real *dodds, int64_t n, ptq_real *doddsd,
                       ptq_real *scratch, ptq_real *dxd);
/** The tokens that choose an expert, ascending, into ws->members and their
 * weights of it into member_share; how many. */
int64_t ptq_route_members(const ptq_model_info *info, int expert, int64_t n,
                          ptq_workspace *ws);
/** rows[m, width] of members of x; and added to them. */
void ptq_rows_gather(const ptq_real *x, int64_t width, const int32_t *members,
                     int64_t m, ptq_real *rows);
void ptq_rows_add(const ptq_real *rows, int64_t width, const int32_t *members,
                  int64_t m, ptq_real *x);

#endif /* PTQ_MODEL_OP_H */
