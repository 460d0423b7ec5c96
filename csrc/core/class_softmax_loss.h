// class_softmax_loss: -sum_j y_j log p_j a row, p the soft-max over all sub-classes, y_j the weight of the sub-classes
// of the row's class (1 / m_c where weight is 0, else `weight`) and 0 elsewhere. Gradient: (sum y) p - y.
#pragma once
#include "types.h"

namespace dshc {

struct ClassSoftmax {
  const void* logits;            // [n, n_columns] of `dtype`: sub-classes first_column, first_column + 1, ...
  DType dtype;                   // float32, float16, bfloat16 or float64
  const int64_t* labels;         // [n]
  const int64_t* class_offsets;  // [n_classes + 1], rising from 0 to n_subclasses
  int64_t n;
  int64_t n_subclasses;
  int64_t n_classes;
  double weight;                 // 0: 1 / m_c
  int64_t ignore_index;          // rows with this label count nowhere
  int64_t first_column;          // 0 and n_subclasses: whole rows
  int64_t n_columns;
};

namespace cpu {

// loss [n] and stats [n, 2] = (largest logit, sum of exp(logit - largest)), which the backward pass reads; both are
// float64 for float64 logits, else float32. If `check`, a label outside [0, n_classes) other than ignore_index is reported;
// unchecked, its row gives loss 0 and gradient 0.
//
// Rows that come in parts, columns from left to right, hand on `carry` [n, 3] = (largest, sum of exp(logit - largest), sum
// of largest - logit over the row's class so far): read from the second part on, written but by the last one, which alone
// writes loss and stats. Null for whole rows.
Status class_softmax_loss(const ClassSoftmax& task, double* carry, void* loss, void* stats, bool check, int n_threads);

// grad_logits [n, n_columns] in the logits' dtype, may be the logits; grad_loss [n] in the loss's dtype.
void class_softmax_loss_backward(const ClassSoftmax& task, const void* stats, const void* grad_loss, void* grad_logits,
                                 int n_threads);

// Whole rows, in one pass: `reduced` [1], the sum of the rows' losses in double, for `mean` over the rows that are not
// ignored (NaN where none is left), in the loss's dtype; stats as above; the gradient of `reduced`, equal to
// class_softmax_loss_backward's of grad_loss 1, or 1 / their number in the loss's dtype. grad_logits may be null, and may
// be the logits.
Status class_softmax_loss_and_gradient(const ClassSoftmax& task, bool mean, void* reduced, void* stats, void* grad_logits,
                                       bool check, int n_threads);

}  // namespace cpu
}  // namespace dshc

// Device pointers; `stream` is a cudaStream_t. Returns the launch's cudaError_t.
namespace dshc::cuda {

// As above. Entries of class_offsets outside [0, n_subclasses] count as the nearest that is inside.
int class_softmax_loss(const ClassSoftmax& task, double* carry, void* loss, void* stats, void* stream);
int class_softmax_loss_backward(const ClassSoftmax& task, const void* stats, const void* grad_loss, void* grad_logits,
                                void* stream);
// Whole rows: loss, stats, and the gradient of the losses' sum, over *n_kept (on the device) where that is not null: to the last
// bit class_softmax_loss_backward's. grad_logits may be the logits.
int class_softmax_loss_and_gradient(const ClassSoftmax& task, const int64_t* n_kept, void* loss, void* stats,
                                    void* grad_logits, void* stream);
// Of such a gradient, which is not the logits: makes it anew, times grad_loss [1], unless that is 1.
int class_softmax_loss_rescale(const ClassSoftmax& task, const void* stats, const void* grad_loss, const int64_t* n_kept,
                               void* grad_logits, void* stream);

}  // namespace dshc::cuda
