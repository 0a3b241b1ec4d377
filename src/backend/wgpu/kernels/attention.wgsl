// softmax(q^T k scale) v for each head, without the matrix of scores: a workgroup takes 32 queries of a head through all keys,
// 32 at a time, and keeps for each query the greatest score so far, the sum of weights and the weighted sum of values.
//
// Rows are queries and columns keys. More channels of a value than 64 BLOCKS go to further workgroups. Starts and strides count single
// values.

struct Params {
    queries: u32,
    keys: u32,
    heads: u32,
    channels: u32,       // of a query or key in a head
    value_channels: u32, // of a value in a head
    parts: u32,          // workgroups that share the channels of a value
    q_start: u32,
    q_stride: u32,
    k_start: u32,
    k_stride: u32,
    v_start: u32,
    v_stride: u32,
    out_start: u32,
    out_stride: u32,
    scale: f32,
}

@group(0) @binding(1) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read_write> q: array<A>;
@group(0) @binding(3) var<storage, read_write> k: array<B>;
@group(0) @binding(4) var<storage, read_write> v: array<C>;
@group(0) @binding(5) var<storage, read_write> out: array<Y>;

fn q_quad(sample: u32, row: u32, head: u32, c: u32) -> vec4<f32> {
    var r = vec4<f32>(0.0);
    let at = (sample * p.queries + row) * p.q_stride + p.q_start + head * p.channels + c;
    for (var i = 0u; i < 4u; i++) {
        if row < p.queries && c + i < p.channels {
            r[i] = f32(q[at + i]);
        }
    }
    return r;
}

fn k_quad(sample: u32, row: u32, head: u32, c: u32) -> vec4<f32> {
    var r = vec4<f32>(0.0);
    let at = (sample * p.keys + row) * p.k_stride + p.k_start + head * p.channels + c;
    for (var i = 0u; i < 4u; i++) {
        if row < p.keys && c + i < p.channels {
            r[i] = f32(k[at + i]);
        }
    }
    return r;
}

fn v_quad(sample: u32, row: u32, head: u32, c: u32) -> vec4<f32> {
    var r = vec4<f32>(0.0);
    let at = (sample * p.keys + row) * p.v_stride + p.v_start + head * p.value_channels + c;
    for (var i = 0u; i < 4u; i++) {
        if row < p.keys && c + i < p.value_channels {
            r[i] = f32(v[at + i]);
        }
    }
    return r;
}

// What 16 keys from `key` on, column `column` of `weights`, add to a quad of this invocation's two queries.
fn weigh(sample: u32, head: u32, key: u32, column: u32, c: u32, local: vec2<u32>) -> Pair {
    tile_v[local.y * 16u + local.x] = v_quad(sample, key + local.y, head, c + local.x * 4u);
    workgroupBarrier();
    let sum = tile_sums(column, local);
    workgroupBarrier();
    return sum;
}

fn store(sample: u32, row: u32, head: u32, c: u32, value: vec4<f32>) {
    let at = (sample * p.queries + row) * p.out_stride + p.out_start + head * p.value_channels + c;
    for (var i = 0u; i < 4u; i++) {
        if row < p.queries && c + i < p.value_channels {
            out[at + i] = Y(value[i]);
        }
    }
}

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let tiles = (p.queries + 31u) / 32u;
    let id = group.x + group.y * grid.x;
    let first = id % tiles * 32u;
    let head = id / tiles % p.heads;
    let part = id / tiles / p.heads % p.parts;
    let sample = id / tiles / p.heads / p.parts;
    if sample >= call.batch {
        return;
    }
    let me = local.y * 16u + local.x;
    let first_channel = part * BLOCKS * 64u;
    let row = local.y * 2u;
    var greatest = vec2<f32>(LOWEST);
    var sums = vec2<f32>(0.0);
    var a0 = vec4<f32>(0.0);
    var a1 = vec4<f32>(0.0);
    var a2 = vec4<f32>(0.0);
    var a3 = vec4<f32>(0.0);
    var b0 = vec4<f32>(0.0);
    var b1 = vec4<f32>(0.0);
    var b2 = vec4<f32>(0.0);
    var b3 = vec4<f32>(0.0);
    for (var key = 0u; key < p.keys; key += 32u) {
        // The scores of the two queries (.xy of the first, .zw of the second) with keys x and x + 16.
        var s = vec4<f32>(0.0);
        for (var c = 0u; c < p.channels; c += 16u) {
            let i = me % 128u;
            let at = i / 4u * LINE + i % 4u;
            if me < 128u {
                tile_r[at] = q_quad(sample, first + i / 4u, head, c + i % 4u * 4u);
            } else {
                tile_c[at] = k_quad(sample, key + i / 4u, head, c + i % 4u * 4u);
            }
            workgroupBarrier();
            s += tile_products(local.xy);
            workgroupBarrier();
        }
        let here = vec2<bool>(key + local.x < p.keys, key + local.x + 16u < p.keys);
        s = select(vec4<f32>(LOWEST), s * p.scale, here.xyxy);
        share(s, local.xy);
        let top = row_tops(greatest, local.xy);
        share(select(vec4<f32>(0.0), exp(s - top.xxyy), here.xyxy), local.xy);
        let fade = exp(greatest - top);
        greatest = top;
        sums = fma(sums, fade, row_sums(local.xy));
        a0 *= fade.x;
        b0 *= fade.y;
        a1 *= fade.x;
        b1 *= fade.y;
        a2 *= fade.x;
        b2 *= fade.y;
        a3 *= fade.x;
        b3 *= fade.y;
        for (var half_of = 0u; half_of < 32u; half_of += 16u) {
            let r0 = weigh(sample, head, key + half_of, half_of, first_channel, local.xy);
            a0 += r0.a;
            b0 += r0.b;
            if BLOCKS > 1u {
                let r1 = weigh(sample, head, key + half_of, half_of, first_channel + 64u, local.xy);
                a1 += r1.a;
                b1 += r1.b;
            }
            if BLOCKS > 2u {
                let r2 = weigh(sample, head, key + half_of, half_of, first_channel + 128u, local.xy);
                a2 += r2.a;
                b2 += r2.b;
                let r3 = weigh(sample, head, key + half_of, half_of, first_channel + 192u, local.xy);
                a3 += r3.a;
                b3 += r3.b;
            }
        }
    }
    let c = first_channel + local.x * 4u;
    store(sample, first + row, head, c, a0 / sums.x);
    store(sample, first + row + 1u, head, c, b0 / sums.y);
    if BLOCKS > 1u {
        store(sample, first + row, head, c + 64u, a1 / sums.x);
        store(sample, first + row + 1u, head, c + 64u, b1 / sums.y);
    }
    if BLOCKS > 2u {
        store(sample, first + row, head, c + 128u, a2 / sums.x);
        store(sample, first + row + 1u, head, c + 128u, b2 / sums.y);
        store(sample, first + row, head, c + 192u, a3 / sums.x);
        store(sample, first + row + 1u, head, c + 192u, b3 / sums.y);
    }
}
