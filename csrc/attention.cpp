// Causal attention with one learned sink logit a head. Source: openai/gpt-oss torch/model.py `sdpa`; splitting a long
// context and merging the parts: Dao et al., arXiv:2307.08691 and 2311.01282.
//
// A query's keys are taken in splits that begin at multiples of `split` positions. Each split has a maximum, a sum and
// a weighted sum of values of its own; they are merged from the oldest to the newest, after the sink. So the result
// depends neither on the number of threads nor on what else is in the batch.
#include <math.h>

#include "threads.h"
#include "weights.h"

namespace ossature {
namespace OSSATURE_ISA {
namespace {

constexpr std::int64_t split = 512;

// Softmax of one split, for the query heads that share a key head: values are weighted by exp(score - top).
struct Part {
    float* top;    // (group)
    float* total;  // (group) sum of the weights
    float* values; // (group, dim)
};

struct Job {
    const Attention& c;
    std::int64_t group; // query heads that share a key head
    std::int64_t parts; // splits that a part of the workspace is kept for; 0: a query is computed in one go

    std::int64_t part_size() const { return group * (c.dim + 2); }

    Part at(float* p) const { return {p, p + group, p + 2 * group}; }

    Part stored(std::int64_t token, std::int64_t kv_head, std::int64_t part) const {
        return at(static_cast<float*>(c.workspace) + ((token * c.kv_heads + kv_head) * parts + part) * part_size());
    }

    std::int64_t first_key(std::int64_t token) const {
        const std::int64_t first = c.position[token] - c.window + 1;
        return c.window && first > 0 ? first : 0;
    }

    // Calls see(first index, pointer to the first row, rows) for runs of keys [begin, end) that lie beside each other.
    template <class T, class See>
    void runs(const T* stored_rows, std::int64_t token, std::int64_t kv_head, std::int64_t begin, std::int64_t end,
              const See& see) const {
        const std::int32_t* table = c.table + c.sequence[token] * c.width;
        for (std::int64_t p = begin; p < end;) {
            const std::int64_t inside = p % c.block;
            const std::int64_t n = c.block - inside < end - p ? c.block - inside : end - p;
            const std::int64_t row = table[p / c.block % c.width] * c.block + inside;
            see(p - begin, stored_rows + (row * c.kv_heads + kv_head) * c.dim, n);
            p += n;
        }
    }
};

#if defined(OSSATURE_AVX512)

// 16 vectors to the vector of their sums.
vec sums(const vec (&a)[16]) {
    vec by_two[8], by_four[4];
    for (int i = 0; i < 8; ++i)
        by_two[i] = add(_mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]), _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]));
    for (int i = 0; i < 4; ++i) {
        const __m512d x = _mm512_castps_pd(by_two[2 * i]), y = _mm512_castps_pd(by_two[2 * i + 1]);
        by_four[i] = add(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)), _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
    }
    const auto halves = [](vec x, vec y) {
        return add(_mm512_shuffle_f32x4(x, y, 0x88), _mm512_shuffle_f32x4(x, y, 0xdd));
    };
    return halves(halves(by_four[0], by_four[1]), halves(by_four[2], by_four[3]));
}

#endif

// Scores of one run of keys, scores[key * group + head], unscaled. q (group, dim) in float32.
template <class T>
void score(float* scores, const float* q, const T* k, std::int64_t keys, const Job& job) {
    const std::int64_t dim = job.c.dim, stride = job.c.kv_heads * dim;
    for (std::int64_t key = 0; key < keys; ++key, k += stride) {
        prefetch(k + 8 * stride);
        for (std::int64_t g = 0; g < job.group; ++g) {
            vec a = broadcast(0);
            std::int64_t i = 0;
            for (; i + lanes <= dim; i += lanes) a = multiply_add(load(q + g * dim + i), load(k + i), a);
            if (i < dim) a = multiply_add(load(q + g * dim + i, dim - i), load(k + i, dim - i), a);
            scores[key * job.group + g] = sum(a);
        }
    }
}

#if defined(OSSATURE_AVX512)

// The shape of gpt-oss: 8 query heads of 64 on a key head. Two keys at a time, so that 16 sums end in one vector.
template <class T>
void score_8_of_64(float* scores, const float* q, const T* k, std::int64_t keys, std::int64_t stride) {
    for (std::int64_t key = 0; key < keys; key += 2, k += 2 * stride) {
        vec a[16];
        for (int j = 0; j < 2; ++j) {
            const T* row = key + j < keys ? k + j * stride : k;
            prefetch(k + (16 + j) * stride);
            prefetch(k + (16 + j) * stride + 32);
            for (int g = 0; g < 8; ++g) a[8 * j + g] = broadcast(0);
            for (int i = 0; i < 4; ++i) {
                const vec part = load(row + i * lanes);
                for (int g = 0; g < 8; ++g)
                    a[8 * j + g] = multiply_add(load(q + g * 64 + i * lanes), part, a[8 * j + g]);
            }
        }
        if (key + 1 < keys) store(scores + key * 8, sums(a));
        else store(scores + key * 8, sums(a), 8);
    }
}

#endif

// values[g] += weight[key, g] * v[key] over one run of keys; `heads` of them from `g` on, kept in registers.
template <int Heads, int Parts, class T>
void weigh(float* values, const float* weights, const T* v, std::int64_t keys, std::int64_t group, std::int64_t stride,
           std::int64_t dim) {
    vec sum[Heads][Parts];
    for (int g = 0; g < Heads; ++g)
        for (int i = 0; i < Parts; ++i) sum[g][i] = load(values + g * dim + i * lanes);
    for (std::int64_t key = 0; key < keys; ++key, v += stride, weights += group) {
        prefetch(v + 32 * stride);
        vec row[Parts];
        for (int i = 0; i < Parts; ++i) row[i] = load(v + i * lanes);
        for (int g = 0; g < Heads; ++g) {
            const vec weight = broadcast(weights[g]);
            for (int i = 0; i < Parts; ++i) sum[g][i] = multiply_add(weight, row[i], sum[g][i]);
        }
    }
    for (int g = 0; g < Heads; ++g)
        for (int i = 0; i < Parts; ++i) store(values + g * dim + i * lanes, sum[g][i]);
}

template <class T>
void weigh(float* values, const float* weights, const T* v, std::int64_t keys, const Job& job) {
    const std::int64_t dim = job.c.dim, stride = job.c.kv_heads * dim;
    std::int64_t g = 0;
#if defined(OSSATURE_AVX512)
    // Two cache lines of a row, one after the other: each is widened once for all heads.
    if (dim == 64 && job.group == 8) {
        for (int half = 0; half < 2; ++half)
            weigh<8, 2>(values + half * 32, weights, v + half * 32, keys, job.group, stride, dim);
        return;
    }
#endif
    constexpr int parts_of_64 = static_cast<int>(64 / lanes), heads = parts_of_64 > 8 ? 1 : parts_of_64 > 4 ? 2 : 4;
    if (dim == 64)
        for (; g + heads <= job.group; g += heads)
            weigh<heads, parts_of_64>(values + g * dim, weights + g, v, keys, job.group, stride, dim);
    for (; g < job.group; ++g)
        for (std::int64_t key = 0; key < keys; ++key) {
            const vec weight = broadcast(weights[key * job.group + g]);
            const T* row = v + key * stride;
            float* out = values + g * dim;
            std::int64_t i = 0;
            for (; i + lanes <= dim; i += lanes) store(out + i, multiply_add(weight, load(row + i), load(out + i)));
            if (i < dim)
                store(out + i, multiply_add(weight, load(row + i, dim - i), load(out + i, dim - i)), dim - i);
        }
}

// Scores become weights exp(scale * score - top), with their maxima and sums. Heads: their number where it is known, so
// that all of them are one vector; else 0.
template <int Heads>
void soften(const Part& part, float* __restrict scores, std::int64_t keys, std::int64_t group, float scale) {
    if (Heads) group = Heads;
    float *__restrict top = part.top, *__restrict total = part.total;
    for (std::int64_t g = 0; g < group; ++g) {
        top[g] = scores[g];
        total[g] = 0;
    }
    for (std::int64_t key = 1; key < keys; ++key)
        for (std::int64_t g = 0; g < group; ++g) {
            const float score = scores[key * group + g];
            top[g] = score > top[g] ? score : top[g];
        }
    for (std::int64_t g = 0; g < group; ++g) top[g] *= scale;
    for (std::int64_t key = 0; key < keys; ++key)
        for (std::int64_t g = 0; g < group; ++g) scores[key * group + g] = scores[key * group + g] * scale - top[g];
    const std::int64_t count = keys * group;
    std::int64_t i = 0;
    for (; i + lanes <= count; i += lanes) store(scores + i, exponential(load(scores + i)));
    if (i < count) store(scores + i, exponential(load(scores + i, count - i)), count - i);
    for (std::int64_t key = 0; key < keys; ++key)
        for (std::int64_t g = 0; g < group; ++g) total[g] += scores[key * group + g];
}

// One split of one query's keys: positions [begin, end). `scores` has room for split * group numbers.
template <class T>
void attend(const Job& job, const Part& part, float* scores, const float* q, std::int64_t token, std::int64_t kv_head,
            std::int64_t begin, std::int64_t end) {
    const Attention& c = job.c;
    job.runs(static_cast<const T*>(c.k), token, kv_head, begin, end, [&](std::int64_t i, const T* k, std::int64_t n) {
#if defined(OSSATURE_AVX512)
        if (c.dim == 64 && job.group == 8) return score_8_of_64(scores + i * 8, q, k, n, c.kv_heads * 64);
#endif
        score(scores + i * job.group, q, k, n, job);
    });
    if (job.group == 8) soften<8>(part, scores, end - begin, job.group, c.scale);
    else soften<0>(part, scores, end - begin, job.group, c.scale);
    memset(part.values, 0, static_cast<size_t>(job.group * c.dim) * sizeof(float));
    job.runs(static_cast<const T*>(c.v), token, kv_head, begin, end, [&](std::int64_t i, const T* v, std::int64_t n) {
        weigh(part.values, scores + i * job.group, v, n, job);
    });
}

// sum <- sum and part, both relative to their own maxima.
void merge(const Part& sum, const Part& part, std::int64_t group, std::int64_t dim) {
    for (std::int64_t g = 0; g < group; ++g) {
        const float top = part.top[g] > sum.top[g] ? part.top[g] : sum.top[g];
        const float keep = expf(sum.top[g] - top), take = expf(part.top[g] - top);
        sum.top[g] = top;
        sum.total[g] = sum.total[g] * keep + part.total[g] * take;
        for (std::int64_t i = 0; i < dim; ++i)
            sum.values[g * dim + i] = sum.values[g * dim + i] * keep + part.values[g * dim + i] * take;
    }
}

void begin_with_sink(const Job& job, const Part& sum, std::int64_t kv_head) {
    for (std::int64_t g = 0; g < job.group; ++g) {
        sum.top[g] = value(job.c.sinks, job.c.sinks_type, kv_head * job.group + g);
        sum.total[g] = 1; // exp(sink - top)
    }
    memset(sum.values, 0, static_cast<size_t>(job.group * job.c.dim) * sizeof(float));
}

template <class T>
void write(const Job& job, const Part& sum, std::int64_t token, std::int64_t kv_head) {
    T* out = static_cast<T*>(job.c.out) + (token * job.c.heads + kv_head * job.group) * job.c.dim;
    for (std::int64_t g = 0; g < job.group; ++g)
        for (std::int64_t i = 0; i < job.c.dim; ++i)
            out[g * job.c.dim + i] = rounded<T>(sum.values[g * job.c.dim + i] / sum.total[g]);
}

// Parts, scores and the query in the scratch memory of a thread.
struct Memory {
    Part sum, part;
    float *scores, *q;

    Memory(const Job& job, int thread) {
        float* p = static_cast<float*>(scratch(thread));
        sum = job.at(p);
        part = job.at(p + job.part_size());
        scores = p + 2 * job.part_size();
        q = scores + split * job.group;
    }
};

template <class T>
void widen(float* q, const Job& job, std::int64_t token, std::int64_t kv_head) {
    const T* from = static_cast<const T*>(job.c.q) + (token * job.c.heads + kv_head * job.group) * job.c.dim;
    const Type type = sizeof(T) == sizeof(float) ? Type::float32 : Type::bfloat16;
    for (std::int64_t i = 0; i < job.group * job.c.dim; ++i) q[i] = value(from, type, i);
}

// A whole query: item = kv_head * tokens + token, so that neighbours read the same keys.
template <class T>
void whole(void* context, std::int64_t item, int thread) {
    const Job& job = *static_cast<Job*>(context);
    const std::int64_t kv_head = item / job.c.tokens, token = item % job.c.tokens;
    const Memory memory(job, thread);
    widen<T>(memory.q, job, token, kv_head);
    begin_with_sink(job, memory.sum, kv_head);
    const std::int64_t first = job.first_key(token), end = job.c.position[token] + 1;
    for (std::int64_t begin = first; begin < end; begin = (begin / split + 1) * split) {
        const std::int64_t stop = (begin / split + 1) * split < end ? (begin / split + 1) * split : end;
        attend<T>(job, memory.part, memory.scores, memory.q, token, kv_head, begin, stop);
        merge(memory.sum, memory.part, job.group, job.c.dim);
    }
    write<T>(job, memory.sum, token, kv_head);
}

// One split of a query: item = (token * parts + part) * kv_heads + kv_head.
template <class T>
void one_split(void* context, std::int64_t item, int thread) {
    const Job& job = *static_cast<Job*>(context);
    const std::int64_t kv_head = item % job.c.kv_heads, rest = item / job.c.kv_heads;
    const std::int64_t token = rest / job.parts, part = rest % job.parts;
    const std::int64_t first = job.first_key(token), number = first / split + part;
    const std::int64_t begin = number * split > first ? number * split : first;
    const std::int64_t last = job.c.position[token] + 1;
    const std::int64_t end = (number + 1) * split < last ? (number + 1) * split : last;
    if (begin >= end) return;
    const Memory memory(job, thread);
    widen<T>(memory.q, job, token, kv_head);
    attend<T>(job, job.stored(token, kv_head, part), memory.scores, memory.q, token, kv_head, begin, end);
}

template <class T>
void merge_splits(void* context, std::int64_t item, int thread) {
    const Job& job = *static_cast<Job*>(context);
    const std::int64_t kv_head = item % job.c.kv_heads, token = item / job.c.kv_heads;
    const Memory memory(job, thread);
    begin_with_sink(job, memory.sum, kv_head);
    const std::int64_t first = job.first_key(token) / split, last = job.c.position[token] / split;
    for (std::int64_t part = 0; part <= last - first; ++part)
        merge(memory.sum, job.stored(token, kv_head, part), job.group, job.c.dim);
    write<T>(job, memory.sum, token, kv_head);
}

// Few queries with long contexts are shared among the threads by splits, many by queries.
std::int64_t parts_of(const Attention& c) {
    std::int64_t most = 1;
    for (std::int64_t t = 0; t < c.tokens; ++t) {
        const std::int64_t first = c.window && c.position[t] >= c.window ? c.position[t] - c.window + 1 : 0;
        const std::int64_t parts = c.position[t] / split - first / split + 1;
        most = parts > most ? parts : most;
    }
    return most > 1 && c.tokens * c.kv_heads < 16 * threads() ? most : 0;
}

template <class T>
void run(const Attention& c) {
    Job job{c, c.heads / c.kv_heads, parts_of(c)};
    std::int64_t keys = 0;
    for (std::int64_t t = 0; t < c.tokens; ++t) keys += c.position[t] + 1 - job.first_key(t);
    const std::int64_t products = 2 * keys * c.heads * c.dim;
    if (!job.parts) return parallel(c.tokens * c.kv_heads, products, whole<T>, &job);
    parallel(c.tokens * job.parts * c.kv_heads, products, one_split<T>, &job);
    parallel(c.tokens * c.kv_heads, c.tokens * job.parts * c.heads * c.dim, merge_splits<T>, &job);
}

} // namespace

void attention(const Attention& c) {
    if (c.type == Type::float32) run<float>(c);
    else run<bf16>(c);
}

std::size_t attention_workspace(const Attention& c) {
    const std::int64_t floats = c.tokens * parts_of(c) * c.heads * (c.dim + 2);
    return static_cast<std::size_t>(floats) * sizeof(float) + 64;
}

} // namespace OSSATURE_ISA
} // namespace ossature
