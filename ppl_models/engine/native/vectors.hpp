// A matrix times a vector, in loops of our own: for the sizes of regressions BLAS takes longer to be called than to run.

namespace {

// out[i] = beta * start[i] + alpha * sum_k matrix[i, k] * vector[k]; strides in elements.
template <typename T>
void matrix_times_vector(T* out, int64_t out_stride, const T* start, int64_t start_stride, const T* matrix,
                         int64_t row_stride, int64_t column_stride, const T* vector, int64_t vector_stride,
                         int64_t rows, int64_t columns, T beta, T alpha) {
  if (column_stride == 1 && vector_stride == 1) {
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4) {
      const T* row = matrix + i * row_stride;
      const T *second = row + row_stride, *third = second + row_stride, *fourth = third + row_stride;
      T a = 0, b = 0, c = 0, d = 0;
#pragma omp simd reduction(+ : a, b, c, d)
      for (int64_t k = 0; k < columns; ++k) {
        a += row[k] * vector[k];
        b += second[k] * vector[k];
        c += third[k] * vector[k];
        d += fourth[k] * vector[k];
      }
      const T sums[4] = {a, b, c, d};
      for (int64_t j = 0; j < 4; ++j) {
        const T before = beta == T(0) ? T(0) : beta * start[(i + j) * start_stride];
        out[(i + j) * out_stride] = before + alpha * sums[j];
      }
    }
    for (; i < rows; ++i) {
      const T* row = matrix + i * row_stride;
      T sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t k = 0; k < columns; ++k) sum += row[k] * vector[k];
      out[i * out_stride] = (beta == T(0) ? T(0) : beta * start[i * start_stride]) + alpha * sum;
    }
    return;
  }
  for (int64_t i = 0; i < rows; ++i) out[i * out_stride] = beta == T(0) ? T(0) : beta * start[i * start_stride];
  if (out_stride == 1 && row_stride == 1) {
    int64_t k = 0;
    for (; k + 4 <= columns; k += 4) {
      const T* column = matrix + k * column_stride;
      const T *second = column + column_stride, *third = second + column_stride, *fourth = third + column_stride;
      const T a = alpha * vector[k * vector_stride], b = alpha * vector[(k + 1) * vector_stride];
      const T c = alpha * vector[(k + 2) * vector_stride], d = alpha * vector[(k + 3) * vector_stride];
#pragma omp simd
      for (int64_t i = 0; i < rows; ++i) out[i] += (a * column[i] + b * second[i]) + (c * third[i] + d * fourth[i]);
    }
    for (; k < columns; ++k) {
      const T* column = matrix + k * column_stride;
      const T a = alpha * vector[k * vector_stride];
#pragma omp simd
      for (int64_t i = 0; i < rows; ++i) out[i] += a * column[i];
    }
    return;
  }
  for (int64_t k = 0; k < columns; ++k) {
    const T scaled = alpha * vector[k * vector_stride];
    for (int64_t i = 0; i < rows; ++i) out[i * out_stride] += scaled * matrix[i * row_stride + k * column_stride];
  }
}

}  // namespace
