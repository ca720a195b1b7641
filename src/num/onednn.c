/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The C interface of oneDNN 2 and 3: in 3, memory descriptors became handles
 * and a matmul's descriptor went into its primitive descriptor. */
#define _GNU_SOURCE /* RTLD_DEFAULT */
#include "onednn.h"

#include <dlfcn.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <string.h>

#include "ptq/base/mem.h"

#if DNNL_CPU_THREADING_RUNTIME != DNNL_RUNTIME_OMP && \
    DNNL_CPU_THREADING_RUNTIME != DNNL_RUNTIME_SEQ
#error "this oneDNN runs on threads that cannot be held to one: take one \
built with OpenMP or without threads, or configure with -DPTQ_ONEDNN=OFF"
#endif

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t layout;
typedef const_dnnl_memory_desc_t layout_ref;
#define REF(l) (l)
#else
typedef dnnl_memory_desc_t layout;
typedef const dnnl_memory_desc_t *layout_ref;
#define REF(l) (&(l))
#endif

/* Kernels kept: a dense model has some twenty shapes, a mixture of experts
 * others with every number of tokens that an expert gets. */
enum { KERNELS = 256 };

/* A product that was met: its primitive, and memory objects whose pointers are
 * set at each call. */
typedef struct kernel {
  ptq_onednn_shape shape;
  int64_t used;                 /* when, in calls */
  dnnl_primitive_t primitive;   /* owned */
  dnnl_memory_t a, b, c, spare; /* owned */
  int64_t spare_bytes;
} kernel;

struct ptq_onednn {
  void (*set_threads)(int); /* OpenMP's; NULL where oneDNN has no threads */
  dnnl_engine_t engine;     /* owned */
  dnnl_stream_t stream;     /* owned */
  kernel kernels[KERNELS];  /* owned */
  int64_t n;                /* of them so far */
  int64_t last;             /* used last: most products come in turns */
  int64_t calls;
  char *spare; /* owned; scratch of the hungriest kernel */
  int64_t spare_bytes;
};

bool ptq_onednn_usable(char *name, size_t size) {
  /* Each set contains those before it, bit by bit. */
  static const struct {
    dnnl_cpu_isa_t isa;
    const char *name;
  } sets[] = {{dnnl_cpu_isa_avx512_core_amx, "avx512_core_amx"},
              {dnnl_cpu_isa_avx512_core_bf16, "avx512_core_bf16"}};
  const unsigned has = (unsigned)dnnl_get_effective_cpu_isa();
  const dnnl_version_t *v = dnnl_version();
  for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
    if ((has & (unsigned)sets[i].isa) != (unsigned)sets[i].isa) continue;
    (void)snprintf(name, size, "onednn %d.%d.%d %s", v->major, v->minor,
                   v->patch, sets[i].name);
    return true;
  }
  return false;
}

/* oneDNN asks OpenMP for its number of threads when it makes a kernel and when
 * it runs one; the setting belongs to the calling thread. */
static ptq_status find_threads(ptq_onednn *o, ptq_err *err) {
#if DNNL_CPU_THREADING_RUNTIME == DNNL_RUNTIME_OMP
  void *symbol = dlsym(RTLD_DEFAULT, "omp_set_num_threads");
  if (symbol == NULL)
    return PTQ_FAIL(err, PTQ_E_UNSUPPORTED,
                    "the OpenMP of oneDNN has no omp_set_num_threads, so it "
                    "cannot be held to one thread");
  /* POSIX lets a void pointer become a function pointer. */
  memcpy(&o->set_threads, &symbol, sizeof symbol);
#else
  (void)err;
#endif
  return PTQ_OK;
}

static void hold_to_one_thread(const ptq_onednn *o) {
  if (o->set_threads != NULL) o->set_threads(1);
}

static ptq_status failed(dnnl_status_t status, const char *what, ptq_err *err) {
  if (status == dnnl_success) return PTQ_OK;
  if (status == dnnl_out_of_memory)
    return PTQ_FAIL(err, PTQ_E_NOMEM, "oneDNN: no memory to %s", what);
  return PTQ_FAIL(err, PTQ_E_UNSUPPORTED, "oneDNN cannot %s (status %d)", what,
                  (int)status);
}

#define DNN(call, what) PTQ_TRY(failed((call), (what), err))

static dnnl_status_t strided(layout *out, int64_t rows, int64_t cols,
                             int64_t row, int64_t col, dnnl_data_type_t type) {
  const dnnl_dims_t dims = {rows, cols}, strides = {row, col};
#if DNNL_VERSION_MAJOR >= 3
  return dnnl_memory_desc_create_with_strides(out, 2, dims, type, strides);
#else
  return dnnl_memory_desc_init_by_strides(out, 2, dims, type, strides);
#endif
}

static dnnl_status_t any_order(layout *out, int64_t rows, int64_t cols) {
  const dnnl_dims_t dims = {rows, cols};
#if DNNL_VERSION_MAJOR >= 3
  return dnnl_memory_desc_create_with_tag(out, 2, dims, dnnl_bf16,
                                          dnnl_format_tag_any);
#else
  return dnnl_memory_desc_init_by_tag(out, 2, dims, dnnl_bf16,
                                      dnnl_format_tag_any);
#endif
}

static void layout_release(layout *l) {
#if DNNL_VERSION_MAJOR >= 3
  (void)dnnl_memory_desc_destroy(*l);
#endif
  memset(l, 0, sizeof *l);
}

static dnnl_status_t describe(dnnl_engine_t engine, const layout *a,
                              const layout *b, const layout *c,
                              const_dnnl_primitive_attr_t attr,
                              dnnl_primitive_desc_t *out) {
#if DNNL_VERSION_MAJOR >= 3
  return dnnl_matmul_primitive_desc_create(out, engine, *a, *b, NULL, *c, attr);
#else
  dnnl_matmul_desc_t d;
  const dnnl_status_t status = dnnl_matmul_desc_init(&d, a, b, NULL, c);
  if (status != dnnl_success) return status;
  return dnnl_primitive_desc_create(out, &d, attr, engine, NULL);
#endif
}

static dnnl_status_t append_factor(dnnl_post_ops_t ops, float alpha) {
#if DNNL_VERSION_MAJOR >= 3
  return dnnl_post_ops_append_eltwise(ops, dnnl_eltwise_linear, alpha, 0.0F);
#else
  return dnnl_post_ops_append_eltwise(ops, 1.0F, dnnl_eltwise_linear, alpha,
                                      0.0F);
#endif
}

static dnnl_status_t append_sum(dnnl_post_ops_t ops) {
#if DNNL_VERSION_MAJOR >= 3
  return dnnl_post_ops_append_sum(ops, 1.0F, 0, dnnl_data_type_undef);
#else
  return dnnl_post_ops_append_sum(ops, 1.0F);
#endif
}

/* Scratch is the caller's; the factor and the sum come after the product. */
static ptq_status make_attr(const ptq_onednn_shape *s,
                            dnnl_primitive_attr_t *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  dnnl_post_ops_t ops = NULL;
  DNN(dnnl_primitive_attr_create(out), "make attributes");
  DNN(dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user),
      "take scratch from its caller");
  DNN(dnnl_post_ops_create(&ops), "make attributes");
  if (s->alpha != 1.0F) DNN(append_factor(ops, s->alpha), "scale a product");
  if (s->add) DNN(append_sum(ops), "add to a product");
  DNN(dnnl_primitive_attr_set_post_ops(*out, ops), "make attributes");
done:
  if (ops != NULL) (void)dnnl_post_ops_destroy(ops);
  return rc;
}

/* The layout that oneDNN wants packed weights [n, k] in. Taken from a product
 * of one window length, and handed to all others, so that one packing serves
 * windows of every length. */
static ptq_status packed_layout(ptq_onednn *o, int64_t n, int64_t k,
                                layout *out, ptq_err *err) {
  enum { ROWS = 512 };
  ptq_status rc = PTQ_OK;
  layout a, b, c;
  dnnl_primitive_desc_t desc = NULL;
  memset(&a, 0, sizeof a);
  memset(&b, 0, sizeof b);
  memset(&c, 0, sizeof c);
  memset(out, 0, sizeof *out);
  hold_to_one_thread(o);
  DNN(strided(&a, ROWS, k, k, 1, dnnl_bf16), "describe activations");
  DNN(any_order(&b, k, n), "describe weights");
  DNN(strided(&c, ROWS, n, n, 1, dnnl_f32), "describe a result");
  DNN(describe(o->engine, &a, &b, &c, NULL, &desc), "multiply bfloat16");
  layout_ref found =
      dnnl_primitive_desc_query_md(desc, dnnl_query_weights_md, 0);
#if DNNL_VERSION_MAJOR >= 3
  DNN(dnnl_memory_desc_clone(out, found), "describe weights");
#else
  *out = *found;
#endif
done:
  if (desc != NULL) (void)dnnl_primitive_desc_destroy(desc);
  layout_release(&a);
  layout_release(&b);
  layout_release(&c);
  return rc;
}

static ptq_status right_layout(ptq_onednn *o, const ptq_onednn_shape *s,
                               layout *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  if (s->side == PTQ_ONEDNN_PACKED)
    return packed_layout(o, s->n, s->k, out, err);
  if (s->side == PTQ_ONEDNN_NT)
    DNN(strided(out, s->k, s->n, 1, s->k, dnnl_bf16), "describe weights");
  else
    DNN(strided(out, s->k, s->n, s->n, 1, dnnl_bf16), "describe weights");
done:
  return rc;
}

static void kernel_release(kernel *k) {
  dnnl_memory_t const all[] = {k->a, k->b, k->c, k->spare};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
    if (all[i] != NULL) (void)dnnl_memory_destroy(all[i]);
  if (k->primitive != NULL) (void)dnnl_primitive_destroy(k->primitive);
  *k = (kernel){0};
}

static ptq_status kernel_init(ptq_onednn *o, const ptq_onednn_shape *s,
                              kernel *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  layout a, b, c;
  dnnl_primitive_attr_t attr = NULL;
  dnnl_primitive_desc_t desc = NULL;
  memset(&a, 0, sizeof a);
  memset(&b, 0, sizeof b);
  memset(&c, 0, sizeof c);
  *out = (kernel){.shape = *s};
  DNN(strided(&a, s->m, s->k, s->k, 1, dnnl_bf16), "describe activations");
  PTQ_TRY(right_layout(o, s, &b, err));
  DNN(strided(&c, s->m, s->n, s->n, 1, dnnl_f32), "describe a result");
  PTQ_TRY(make_attr(s, &attr, err));
  DNN(describe(o->engine, &a, &b, &c, attr, &desc), "multiply bfloat16");
  DNN(dnnl_primitive_create(&out->primitive, desc), "make a kernel");
  layout_ref spare =
      dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0);
  out->spare_bytes = (int64_t)dnnl_memory_desc_get_size(spare);
  DNN(dnnl_memory_create(&out->a, REF(a), o->engine, DNNL_MEMORY_NONE),
      "hold a matrix");
  DNN(dnnl_memory_create(&out->b, REF(b), o->engine, DNNL_MEMORY_NONE),
      "hold a matrix");
  DNN(dnnl_memory_create(&out->c, REF(c), o->engine, DNNL_MEMORY_NONE),
      "hold a matrix");
  DNN(dnnl_memory_create(&out->spare, spare, o->engine, DNNL_MEMORY_NONE),
      "hold scratch");
done:
  if (desc != NULL) (void)dnnl_primitive_desc_destroy(desc);
  if (attr != NULL) (void)dnnl_primitive_attr_destroy(attr);
  layout_release(&a);
  layout_release(&b);
  layout_release(&c);
  if (rc != PTQ_OK) kernel_release(out);
  return rc;
}

static bool same(const ptq_onednn_shape *s, const ptq_onednn_shape *t) {
  return s->m == t->m && s->n == t->n && s->k == t->k && s->side == t->side &&
         s->alpha == t->alpha && s->add == t->add;
}

/* Where the next kernel goes: what was there longest unused makes room. */
static kernel *place(ptq_onednn *o) {
  if (o->n < KERNELS) return &o->kernels[o->n++];
  kernel *oldest = &o->kernels[0];
  for (int64_t i = 1; i < o->n; i++)
    if (o->kernels[i].used < oldest->used) oldest = &o->kernels[i];
  kernel_release(oldest);
  return oldest;
}

static ptq_status make_spare(ptq_onednn *o, int64_t bytes, ptq_err *err) {
  if (bytes <= o->spare_bytes) return PTQ_OK;
  ptq_free(o->spare);
  o->spare_bytes = 0;
  const ptq_status rc =
      ptq_alloc(&o->spare, bytes, 1, "scratch of a product", err);
  if (rc == PTQ_OK) o->spare_bytes = bytes;
  return rc;
}

static ptq_status find(ptq_onednn *o, const ptq_onednn_shape *s, kernel **out,
                       ptq_err *err) {
  ptq_status rc = PTQ_OK;
  kernel fresh = {0};
  *out = NULL;
  for (int64_t i = 0; i < o->n && *out == NULL; i++) {
    kernel *k = &o->kernels[(o->last + i) % o->n];
    if (same(&k->shape, s)) *out = k;
  }
  if (*out == NULL) {
    PTQ_TRY(kernel_init(o, s, &fresh, err));
    *out = place(o);
    **out = fresh;
  }
  (*out)->used = ++o->calls;
  o->last = *out - o->kernels;
  PTQ_TRY(make_spare(o, (*out)->spare_bytes, err));
done:
  return rc;
}

/* The interface takes all pointers as writable; only c and spare are written.
 */
static void *writable(const void *p) {
  void *q = NULL;
  memcpy(&q, &p, sizeof q);
  return q;
}

ptq_status ptq_onednn_multiply(ptq_onednn *o, const ptq_onednn_shape *shape,
                               const ptq_bf16 *a, const void *b, float *c,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  kernel *k = NULL;
  hold_to_one_thread(o);
  PTQ_TRY(find(o, shape, &k, err));
  DNN(dnnl_memory_set_data_handle(k->a, writable(a)), "take a matrix");
  DNN(dnnl_memory_set_data_handle(k->b, writable(b)), "take a matrix");
  DNN(dnnl_memory_set_data_handle(k->c, c), "take a matrix");
  DNN(dnnl_memory_set_data_handle(k->spare, o->spare), "take scratch");
  const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, k->a},
                                  {DNNL_ARG_WEIGHTS, k->b},
                                  {DNNL_ARG_DST, k->c},
                                  {DNNL_ARG_SCRATCHPAD, k->spare}};
  DNN(dnnl_primitive_execute(k->primitive, o->stream, 4, args), "multiply");
  DNN(dnnl_stream_wait(o->stream), "multiply");
done:
  return rc;
}

ptq_status ptq_onednn_packed_bytes(ptq_onednn *o, int64_t n, int64_t k,
                                   int64_t *bytes, ptq_err *err) {
  layout l;
  const ptq_status rc = packed_layout(o, n, k, &l, err);
  *bytes = rc == PTQ_OK ? (int64_t)dnnl_memory_desc_get_size(REF(l)) : 0;
  layout_release(&l);
  return rc;
}

ptq_status ptq_onednn_pack(ptq_onednn *o, int64_t n, int64_t k,
                           const ptq_bf16 *w, void *packed, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  layout from, to;
  dnnl_primitive_desc_t desc = NULL;
  dnnl_primitive_t reorder = NULL;
  dnnl_memory_t source = NULL, target = NULL;
  memset(&from, 0, sizeof from);
  PTQ_TRY(packed_layout(o, n, k, &to, err));
  DNN(strided(&from, k, n, 1, k, dnnl_bf16), "describe weights");
  DNN(dnnl_reorder_primitive_desc_create(&desc, REF(from), o->engine, REF(to),
                                         o->engine, NULL),
      "pack weights");
  DNN(dnnl_primitive_create(&reorder, desc), "pack weights");
  DNN(dnnl_memory_create(&source, REF(from), o->engine, writable(w)),
      "pack weights");
  DNN(dnnl_memory_create(&target, REF(to), o->engine, packed), "pack weights");
  const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, source},
                                  {DNNL_ARG_TO, target}};
  DNN(dnnl_primitive_execute(reorder, o->stream, 2, args), "pack weights");
  DNN(dnnl_stream_wait(o->stream), "pack weights");
done:
  if (source != NULL) (void)dnnl_memory_destroy(source);
  if (target != NULL) (void)dnnl_memory_destroy(target);
  if (reorder != NULL) (void)dnnl_primitive_destroy(reorder);
  if (desc != NULL) (void)dnnl_primitive_desc_destroy(desc);
  layout_release(&from);
  layout_release(&to);
  return rc;
}

ptq_status ptq_onednn_create(ptq_onednn **out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_onednn *o = NULL;
  *out = NULL;
  PTQ_TRY(ptq_alloc(&o, 1, sizeof *o, "oneDNN", err));
  PTQ_TRY(find_threads(o, err));
  DNN(dnnl_engine_create(&o->engine, dnnl_cpu, 0), "begin");
  DNN(dnnl_stream_create(&o->stream, o->engine, dnnl_stream_default_flags),
      "begin");
  *out = o;
  o = NULL;
done:
  ptq_onednn_free(o);
  return rc;
}

void ptq_onednn_free(ptq_onednn *o) {
  if (o == NULL) return;
  for (int64_t i = 0; i < o->n; i++) kernel_release(&o->kernels[i]);
  ptq_free(o->spare);
  if (o->stream != NULL) (void)dnnl_stream_destroy(o->stream);
  if (o->engine != NULL) (void)dnnl_engine_destroy(o->engine);
  ptq_free(o);
}
