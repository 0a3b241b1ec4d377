// One value of the result for each invocation. Starts and strides count single values.

struct Params {
    positions: u32,
    channels: u32,  // of the result
    x_start: u32,
    x_stride: u32,
    y_start: u32,
    y_stride: u32,  // from row to row, or from sample to sample for a y without positions
    z_start: u32,
    z_stride: u32,
    x_channels: u32,
    before: u32,    // PAD: zero channels in front
    scale: f32,
    shift: f32,
    slope: f32,
}

@group(0) @binding(1) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read_write> x: array<X>;
@group(0) @binding(3) var<storage, read_write> y: array<Y>;
@group(0) @binding(4) var<storage, read_write> z: array<Z>;

const AFFINE = 0u;
const ADD = 1u;
const MUL = 2u;
const DIV = 3u;
const APPLY_AFFINE = 4u;
const GRADIENT = 5u;
const PAD = 6u;

override OP: u32 = 0;
override ACTIVATION: u32 = 0;
// What y has: a value for each of x (0), for each channel (1), one (2).
override Y_IS: u32 = 0;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let i = (group.x + group.y * grid.x) * 256u + local.x;
    let row = i / p.channels;
    if row >= call.batch * p.positions {
        return;
    }
    let c = i % p.channels;
    let sample = row / p.positions;
    var v = 0.0;
    if OP != PAD || (c >= p.before && c < p.before + p.x_channels) {
        v = f32(x[row * p.x_stride + p.x_start + c - p.before]);
    }
    var other = 0.0;
    if (OP >= ADD && OP <= DIV) || OP == GRADIENT {
        let at = select(sample, row, Y_IS == 0u) * p.y_stride + p.y_start;
        other = f32(y[at + select(c, 0u, Y_IS == 2u)]);
    }
    switch OP {
        case ADD: { v += other; }
        case MUL: { v *= other; }
        case DIV: { v /= other; }
        case APPLY_AFFINE: {
            let at = sample * p.y_stride + p.y_start + c;
            v = fma(v, f32(y[at]), f32(y[at + p.channels]));
        }
        case AFFINE: { v = v * p.scale + p.shift; }
        default: {}
    }
    if OP == GRADIENT {
        v = other * derivative(ACTIVATION, p.slope, vec4<f32>(v)).x;
    } else {
        v = activate(ACTIVATION, p.slope, vec4<f32>(v)).x;
    }
    z[row * p.z_stride + p.z_start + c] = Z(v);
}
