// The small operations of the 2015 networks, one value of the result for each invocation, except the softmax and its gradient: there an
// invocation makes a row. Starts and strides count single values.

struct Params {
    positions: u32,   // of the result
    channels: u32,    // of the result
    x_positions: u32,
    x_channels: u32,
    x_start: u32,
    x_stride: u32,
    y_channels: u32,
    y_start: u32,
    y_stride: u32,    // from row to row, or from sample to sample for a y without positions
    out_start: u32,
    out_stride: u32,
}

@group(0) @binding(1) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read_write> x: array<X>;
@group(0) @binding(3) var<storage, read_write> y: array<Y>;
// A bias [positions, channels], or centres [N, D].
@group(0) @binding(4) var<storage, read> first: array<f32>;
// Widths [N].
@group(0) @binding(5) var<storage, read> second: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<Z>;

// Element i in row-major order, channels outermost, becomes element i.
const RESHAPE = 0u;
// x + first.
const ELEMENT_BIAS = 1u;
// -|x - c_k|^2 / (2 w_k^2).
const RADIAL_BASIS = 2u;
// The sum over k of dy_k (c_k - x) / w_k^2.
const RADIAL_BASIS_GRAD = 3u;
const SOFTMAX = 4u;
const SOFTMAX_GRAD = 5u;
// The sum over j of m_(g J + j) v_j.
const MAT_VEC = 6u;
// dy_g v_j.
const OUTER = 7u;
// The sum over positions and g of m_(g J + j) dy_g.
const VEC_MAT = 8u;

override OP: u32 = 0;

fn softmax(row: u32) {
    let x_at = row * p.x_stride + p.x_start;
    let out_at = row * p.out_stride + p.out_start;
    var greatest = f32(x[x_at]);
    for (var i = 1u; i < p.channels; i++) {
        greatest = max(greatest, f32(x[x_at + i]));
    }
    var sum = 0.0;
    for (var i = 0u; i < p.channels; i++) {
        sum += exp(f32(x[x_at + i]) - greatest);
    }
    for (var i = 0u; i < p.channels; i++) {
        out[out_at + i] = Z(exp(f32(x[x_at + i]) - greatest) / sum);
    }
}

fn softmax_grad(row: u32) {
    let x_at = row * p.x_stride + p.x_start;
    let y_at = row * p.y_stride + p.y_start;
    let out_at = row * p.out_stride + p.out_start;
    var inner = 0.0;
    for (var i = 0u; i < p.channels; i++) {
        inner = fma(f32(x[x_at + i]), f32(y[y_at + i]), inner);
    }
    for (var i = 0u; i < p.channels; i++) {
        out[out_at + i] = Z(f32(x[x_at + i]) * (f32(y[y_at + i]) - inner));
    }
}

fn element(row: u32, c: u32) -> f32 {
    let sample = row / p.positions;
    let at = row % p.positions;
    let x_at = row * p.x_stride + p.x_start;
    var v = 0.0;
    switch OP {
        case RESHAPE: {
            let n = c * p.positions + at;
            let source = sample * p.x_positions + n % p.x_positions;
            v = f32(x[source * p.x_stride + p.x_start + n / p.x_positions]);
        }
        case ELEMENT_BIAS: {
            v = f32(x[x_at + c]) + first[at * p.channels + c];
        }
        case RADIAL_BASIS: {
            for (var i = 0u; i < p.x_channels; i++) {
                let d = f32(x[x_at + i]) - first[c * p.x_channels + i];
                v = fma(d, d, v);
            }
            v = -v / (2.0 * second[c] * second[c]);
        }
        case RADIAL_BASIS_GRAD: {
            let here = f32(x[x_at + c]);
            for (var i = 0u; i < p.y_channels; i++) {
                let d = (first[i * p.channels + c] - here) / (second[i] * second[i]);
                v = fma(f32(y[row * p.y_stride + p.y_start + i]), d, v);
            }
        }
        case MAT_VEC: {
            for (var i = 0u; i < p.y_channels; i++) {
                v = fma(f32(x[x_at + c * p.y_channels + i]), f32(y[sample * p.y_stride + p.y_start + i]), v);
            }
        }
        case OUTER: {
            v = f32(x[x_at + c / p.y_channels]) * f32(y[sample * p.y_stride + p.y_start + c % p.y_channels]);
        }
        default: {
            for (var i = 0u; i < p.x_positions; i++) {
                let m = sample * p.x_positions + i;
                for (var g = 0u; g < p.y_channels; g++) {
                    let w = f32(x[m * p.x_stride + p.x_start + g * p.channels + c]);
                    v = fma(w, f32(y[m * p.y_stride + p.y_start + g]), v);
                }
            }
        }
    }
    return v;
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let i = (group.x + group.y * grid.x) * 256u + local.x;
    let rows = call.batch * p.positions;
    if OP == SOFTMAX || OP == SOFTMAX_GRAD {
        if i < rows && OP == SOFTMAX {
            softmax(i);
        } else if i < rows {
            softmax_grad(i);
        }
        return;
    }
    let row = i / p.channels;
    if row < rows {
        let c = i % p.channels;
        out[row * p.out_stride + p.out_start + c] = Z(element(row, c));
    }
}
