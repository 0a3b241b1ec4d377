// Gradients of attention. With P the softmax of S = q^T k scale, dP = dy^T v and D = sum of P dP over keys:
// dS = P (dP - D) scale, dq = dS k, dk = dS^T q, dv = P^T dy. No matrix is kept: each stage makes S and dP again, 32 x 32 at a time.
//
// Stage 0 finds for each query the logarithm of the sum of exp(S), and D. Stage 1 makes dq, stage 2 dk, stage 3 dv. In stages 0 and 1
// a workgroup's 32 rows are queries and it goes through the keys (the columns); in 2 and 3 rows are keys and columns queries. An
// invocation has rows 2 y, 2 y + 1 and columns x, x + 16, and quads x, x + 16, ... of both rows of the result, as in attention.wgsl.

struct Params {
    queries: u32,
    keys: u32,
    heads: u32,
    channels: u32,       // of a query or key in a head
    value_channels: u32, // of a value in a head
    parts: u32,          // workgroups that share the channels of the result
    q_start: u32,
    q_stride: u32,
    k_start: u32,
    k_stride: u32,
    v_start: u32,
    v_stride: u32,
    dy_start: u32,
    dy_stride: u32,
    stats_stride: u32,
    out_start: u32,
    out_stride: u32,
    scale: f32,
}

@group(0) @binding(1) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read_write> q: array<A>;
@group(0) @binding(3) var<storage, read_write> k: array<B>;
@group(0) @binding(4) var<storage, read_write> v: array<C>;
@group(0) @binding(5) var<storage, read_write> dy: array<D>;
@group(0) @binding(6) var<storage, read_write> stats: array<f32>;
@group(0) @binding(7) var<storage, read_write> out: array<Y>;

override STAGE: u32 = 0;
const QUERY = 0u;
const KEY = 1u;
const VALUE = 2u;
const COTANGENT = 3u;

// Channels c .. c + 4 of a head in a row of one of the tensors; 0 outside.
fn quad(which: u32, sample: u32, row: u32, head: u32, c: u32) -> vec4<f32> {
    var r = vec4<f32>(0.0);
    let rows = select(p.keys, p.queries, which == QUERY || which == COTANGENT);
    let count = select(p.value_channels, p.channels, which == QUERY || which == KEY);
    let at = head * count + c;
    for (var i = 0u; i < 4u; i++) {
        if row < rows && c + i < count {
            switch which {
                case QUERY: { r[i] = f32(q[(sample * rows + row) * p.q_stride + p.q_start + at + i]); }
                case KEY: { r[i] = f32(k[(sample * rows + row) * p.k_stride + p.k_start + at + i]); }
                case VALUE: { r[i] = f32(v[(sample * rows + row) * p.v_stride + p.v_start + at + i]); }
                default: { r[i] = f32(dy[(sample * rows + row) * p.dy_stride + p.dy_start + at + i]); }
            }
        }
    }
    return r;
}

// The inner products of the two rows with the two columns: .xy of the first row.
fn products(rows: u32, columns: u32, count: u32, sample: u32, head: u32, row: u32, column: u32, local: vec2<u32>) -> vec4<f32> {
    let me = local.y * 16u + local.x;
    let i = me % 128u;
    let at = i / 4u * LINE + i % 4u;
    var s = vec4<f32>(0.0);
    for (var c = 0u; c < count; c += 16u) {
        if me < 128u {
            tile_r[at] = quad(rows, sample, row + i / 4u, head, c + i % 4u * 4u);
        } else {
            tile_c[at] = quad(columns, sample, column + i / 4u, head, c + i % 4u * 4u);
        }
        workgroupBarrier();
        s += tile_products(local);
        workgroupBarrier();
    }
    return s;
}

// What the 32 columns add to a quad of the two rows' results.
fn weigh(which: u32, sample: u32, head: u32, column: u32, c: u32, local: vec2<u32>) -> Pair {
    var sum = Pair(vec4<f32>(0.0), vec4<f32>(0.0));
    for (var part = 0u; part < 32u; part += 16u) {
        tile_v[local.y * 16u + local.x] = quad(which, sample, column + part + local.y, head, c + local.x * 4u);
        workgroupBarrier();
        let added = tile_sums(part, local);
        sum = Pair(sum.a + added.a, sum.b + added.b);
        workgroupBarrier();
    }
    return sum;
}

fn store(sample: u32, rows: u32, row: u32, head: u32, count: u32, c: u32, value: vec4<f32>) {
    let at = (sample * rows + row) * p.out_stride + p.out_start + head * count + c;
    for (var i = 0u; i < 4u; i++) {
        if row < rows && c + i < count {
            out[at + i] = Y(value[i]);
        }
    }
}

fn stats_place(sample: u32, query: u32, head: u32) -> u32 {
    return (sample * p.queries + min(query, p.queries - 1u)) * p.stats_stride + head * 2u;
}

// Stage 0.
fn find_stats(sample: u32, head: u32, first: u32, local: vec2<u32>) {
    var greatest = vec2<f32>(LOWEST);
    var sums = vec2<f32>(0.0);
    var inner = vec2<f32>(0.0);
    for (var key = 0u; key < p.keys; key += 32u) {
        let here = vec2<bool>(key + local.x < p.keys, key + local.x + 16u < p.keys);
        var s = products(QUERY, KEY, p.channels, sample, head, first, key, local) * p.scale;
        s = select(vec4<f32>(LOWEST), s, here.xyxy);
        let dp = products(COTANGENT, VALUE, p.value_channels, sample, head, first, key, local);
        share(s, local);
        let top = row_tops(greatest, local);
        let e = select(vec4<f32>(0.0), exp(s - top.xxyy), here.xyxy);
        let fade = exp(greatest - top);
        greatest = top;
        share(e, local);
        sums = fma(sums, fade, row_sums(local));
        share(e * dp, local);
        inner = fma(inner, fade, row_sums(local));
    }
    if local.x == 0u {
        for (var i = 0u; i < 2u; i++) {
            let query = first + local.y * 2u + i;
            if query < p.queries {
                let at = stats_place(sample, query, head);
                stats[at] = greatest[i] + log(sums[i]);
                stats[at + 1u] = inner[i] / sums[i];
            }
        }
    }
}

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_id) local3: vec3<u32>,
) {
    let local = local3.xy;
    let rows_are_keys = STAGE >= 2u;
    let rows = select(p.queries, p.keys, rows_are_keys);
    let columns = select(p.keys, p.queries, rows_are_keys);
    let tiles = (rows + 31u) / 32u;
    let id = group.x + group.y * grid.x;
    let first = id % tiles * 32u;
    let head = id / tiles % p.heads;
    let part = id / tiles / p.heads % p.parts;
    let sample = id / tiles / p.heads / p.parts;
    if sample >= call.batch {
        return;
    }
    if STAGE == 0u {
        find_stats(sample, head, first, local);
        return;
    }
    let count = select(p.channels, p.value_channels, STAGE == 3u);
    let vectors = select(select(COTANGENT, QUERY, STAGE == 2u), KEY, STAGE == 1u);
    let c = part * BLOCKS * 64u;
    var a0 = vec4<f32>(0.0);
    var a1 = vec4<f32>(0.0);
    var a2 = vec4<f32>(0.0);
    var a3 = vec4<f32>(0.0);
    var b0 = vec4<f32>(0.0);
    var b1 = vec4<f32>(0.0);
    var b2 = vec4<f32>(0.0);
    var b3 = vec4<f32>(0.0);
    for (var column = 0u; column < columns; column += 32u) {
        let here = vec2<bool>(column + local.x < columns, column + local.x + 16u < columns);
        var w: vec4<f32>;
        // The queries of the four numbers.
        var queries: vec4<u32>;
        if rows_are_keys {
            w = products(KEY, QUERY, p.channels, sample, head, first, column, local);
            queries = column + local.x + vec4<u32>(0u, 16u, 0u, 16u);
        } else {
            w = products(QUERY, KEY, p.channels, sample, head, first, column, local);
            queries = first + local.y * 2u + vec4<u32>(0u, 0u, 1u, 1u);
        }
        var logs: vec4<f32>;
        var inner: vec4<f32>;
        for (var i = 0u; i < 4u; i++) {
            let at = stats_place(sample, queries[i], head);
            logs[i] = stats[at];
            inner[i] = stats[at + 1u];
        }
        w = exp(w * p.scale - logs);
        if STAGE != 3u {
            var dp: vec4<f32>;
            if rows_are_keys {
                dp = products(VALUE, COTANGENT, p.value_channels, sample, head, first, column, local);
            } else {
                dp = products(COTANGENT, VALUE, p.value_channels, sample, head, first, column, local);
            }
            w *= (dp - inner) * p.scale;
        }
        share(select(vec4<f32>(0.0), w, here.xyxy), local);
        let r0 = weigh(vectors, sample, head, column, c, local);
        a0 += r0.a;
        b0 += r0.b;
        if BLOCKS > 1u {
            let r1 = weigh(vectors, sample, head, column, c + 64u, local);
            a1 += r1.a;
            b1 += r1.b;
        }
        if BLOCKS > 2u {
            let r2 = weigh(vectors, sample, head, column, c + 128u, local);
            a2 += r2.a;
            b2 += r2.b;
            let r3 = weigh(vectors, sample, head, column, c + 192u, local);
            a3 += r3.a;
            b3 += r3.b;
        }
    }
    let row = first + local.y * 2u;
    let at = c + local.x * 4u;
    store(sample, rows, row, head, count, at, a0);
    store(sample, rows, row + 1u, head, count, at, b0);
    if BLOCKS > 1u {
        store(sample, rows, row, head, count, at + 64u, a1);
        store(sample, rows, row + 1u, head, count, at + 64u, b1);
    }
    if BLOCKS > 2u {
        store(sample, rows, row, head, count, at + 128u, a2);
        store(sample, rows, row + 1u, head, count, at + 128u, b2);
        store(sample, rows, row, head, count, at + 192u, a3);
        store(sample, rows, row + 1u, head, count, at + 192u, b3);
    }
}
