// Linear attention and its gradients, in stages. Heads have d channels of a (queries, keys) and e of b (values); what couples them is a
// matrix m of d x e values for each head, which is a value without positions. Starts and strides count single values.

struct Params {
    positions: u32,  // of a, and of b where both are read
    heads: u32,
    d: u32,
    e: u32,
    a_start: u32,
    a_stride: u32,
    b_start: u32,
    b_stride: u32,
    z_start: u32,
    z_stride: u32,
}

@group(0) @binding(1) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read_write> a: array<A>;
@group(0) @binding(3) var<storage, read_write> b: array<B>;
@group(0) @binding(4) var<storage, read_write> z: array<Z>;

// At each position over a head's channels.
const SOFTMAX_CHANNELS = 0u;
// In each channel over the positions.
const SOFTMAX_POSITIONS = 1u;
// m_ij, the sum over positions of a_i b_j.
const COUPLE = 2u;
// The sum over i of m_ij b_i: m comes as a, and d channels of a head as b.
const APPLY = 3u;
// The sum over j of m_ij b_j, with e channels of a head as b.
const APPLY_TRANSPOSED = 4u;
// Of a softmax a with the gradient b: a (b - the sum of a b).
const GRADIENT_CHANNELS = 5u;
const GRADIENT_POSITIONS = 6u;

override STAGE: u32 = 0;

fn of_channels(i: u32) {
    let row = i / p.heads;
    let source = i % p.heads * p.d;
    let a_at = row * p.a_stride + p.a_start + source;
    let b_at = row * p.b_stride + p.b_start + source;
    let z_at = row * p.z_stride + p.z_start + source;
    if STAGE == SOFTMAX_CHANNELS {
        var most = f32(a[a_at]);
        for (var c = 1u; c < p.d; c++) {
            most = max(most, f32(a[a_at + c]));
        }
        var sum = 0.0;
        for (var c = 0u; c < p.d; c++) {
            sum += exp(f32(a[a_at + c]) - most);
        }
        for (var c = 0u; c < p.d; c++) {
            z[z_at + c] = Z(exp(f32(a[a_at + c]) - most) / sum);
        }
    } else {
        var inner = 0.0;
        for (var c = 0u; c < p.d; c++) {
            inner = fma(f32(a[a_at + c]), f32(b[b_at + c]), inner);
        }
        for (var c = 0u; c < p.d; c++) {
            z[z_at + c] = Z(f32(a[a_at + c]) * (f32(b[b_at + c]) - inner));
        }
    }
}

fn of_positions(i: u32) {
    let channels = p.heads * p.d;
    let c = i % channels;
    let first = i / channels * p.positions;
    if STAGE == SOFTMAX_POSITIONS {
        var most = f32(a[first * p.a_stride + p.a_start + c]);
        for (var n = 1u; n < p.positions; n++) {
            most = max(most, f32(a[(first + n) * p.a_stride + p.a_start + c]));
        }
        var sum = 0.0;
        for (var n = 0u; n < p.positions; n++) {
            sum += exp(f32(a[(first + n) * p.a_stride + p.a_start + c]) - most);
        }
        for (var n = 0u; n < p.positions; n++) {
            let v = exp(f32(a[(first + n) * p.a_stride + p.a_start + c]) - most) / sum;
            z[(first + n) * p.z_stride + p.z_start + c] = Z(v);
        }
    } else {
        var inner = 0.0;
        for (var n = 0u; n < p.positions; n++) {
            let y = f32(a[(first + n) * p.a_stride + p.a_start + c]);
            inner = fma(y, f32(b[(first + n) * p.b_stride + p.b_start + c]), inner);
        }
        for (var n = 0u; n < p.positions; n++) {
            let y = f32(a[(first + n) * p.a_stride + p.a_start + c]);
            let dy = f32(b[(first + n) * p.b_stride + p.b_start + c]);
            z[(first + n) * p.z_stride + p.z_start + c] = Z(y * (dy - inner));
        }
    }
}

fn couple(i: u32) {
    let size = p.heads * p.d * p.e;
    let sample = i / size;
    let k = i % size;
    let row = k / p.e;
    let column = row / p.d * p.e + k % p.e;
    var sum = 0.0;
    for (var n = sample * p.positions; n < (sample + 1u) * p.positions; n++) {
        sum = fma(f32(a[n * p.a_stride + p.a_start + row]), f32(b[n * p.b_stride + p.b_start + column]), sum);
    }
    z[sample * p.z_stride + p.z_start + k] = Z(sum);
}

// a is m.
fn apply(i: u32) {
    let made = select(p.d, p.e, STAGE == APPLY);
    let summed = select(p.e, p.d, STAGE == APPLY);
    let channels = p.heads * made;
    let row = i / channels;
    let c = i % channels;
    let head = c / made;
    let sample = row / p.positions;
    let m_at = sample * p.a_stride + p.a_start + head * p.d * p.e;
    let b_at = row * p.b_stride + p.b_start + head * summed;
    var sum = 0.0;
    for (var k = 0u; k < summed; k++) {
        let m = select(c % made * p.e + k, k * p.e + c % made, STAGE == APPLY);
        sum = fma(f32(a[m_at + m]), f32(b[b_at + k]), sum);
    }
    z[row * p.z_stride + p.z_start + c] = Z(sum);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let i = (group.x + group.y * grid.x) * 256u + local.x;
    switch STAGE {
        case SOFTMAX_CHANNELS, GRADIENT_CHANNELS: {
            if i < call.batch * p.positions * p.heads {
                of_channels(i);
            }
        }
        case SOFTMAX_POSITIONS, GRADIENT_POSITIONS: {
            if i < call.batch * p.heads * p.d {
                of_positions(i);
            }
        }
        case COUPLE: {
            if i < call.batch * p.heads * p.d * p.e {
                couple(i);
            }
        }
        default: {
            if i < call.batch * p.positions * p.heads * select(p.d, p.e, STAGE == APPLY) {
                apply(i);
            }
        }
    }
}
