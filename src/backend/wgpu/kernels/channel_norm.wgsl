// Norms at each position alone, and their gradients: an invocation takes a group of one position. Starts and strides count single values.

struct Params {
    positions: u32,
    groups: u32,
    size: u32,     // channels of a group
    x_start: u32,
    x_stride: u32,
    dy_start: u32,
    dy_stride: u32,
    z_start: u32,
    z_stride: u32,
    factors: u32,  // how many there are, 0 for none
    offsets: u32,
    eps: f32,
}

@group(0) @binding(1) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read_write> x: array<X>;
@group(0) @binding(3) var<storage, read_write> dy: array<D>;
@group(0) @binding(4) var<storage, read> weight: array<f32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<storage, read_write> z: array<Z>;

const LAYER = 0u;
const RMS = 1u;
const L2 = 2u;

override KIND: u32 = 0;
override GRADIENT: u32 = 0;

fn factor(c: u32) -> f32 {
    if p.factors == 0u {
        return 1.0;
    }
    return weight[c % p.factors];
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let i = (group.x + group.y * grid.x) * 256u + local.x;
    let row = i / p.groups;
    if row >= call.batch * p.positions {
        return;
    }
    let first = i % p.groups * p.size;
    let x_at = row * p.x_stride + p.x_start + first;
    let z_at = row * p.z_stride + p.z_start + first;
    let len = f32(p.size);
    var mean = 0.0;
    if KIND == LAYER {
        for (var c = 0u; c < p.size; c++) {
            mean += f32(x[x_at + c]);
        }
        mean /= len;
    }
    var square = 0.0;
    for (var c = 0u; c < p.size; c++) {
        let d = f32(x[x_at + c]) - mean;
        square = fma(d, d, square);
    }
    var r = 0.0;
    // Where an L2 norm's divisor is eps, it does not change with x.
    var constant = false;
    if KIND == L2 {
        let norm = sqrt(square);
        constant = norm <= p.eps;
        r = sqrt(len) / max(norm, p.eps);
    } else {
        r = 1.0 / sqrt(square / len + p.eps);
    }
    if GRADIENT == 0u {
        for (var c = 0u; c < p.size; c++) {
            var v = (f32(x[x_at + c]) - mean) * r * factor(first + c);
            if p.offsets > 0u {
                v += bias[(first + c) % p.offsets];
            }
            z[z_at + c] = Z(v);
        }
        return;
    }
    let dy_at = row * p.dy_stride + p.dy_start + first;
    var mean_g = 0.0;
    var mean_gz = 0.0;
    for (var c = 0u; c < p.size; c++) {
        let g = f32(dy[dy_at + c]) * factor(first + c);
        mean_g += g;
        mean_gz = fma(g, (f32(x[x_at + c]) - mean) * r, mean_gz);
    }
    mean_g = select(0.0, mean_g / len, KIND == LAYER);
    mean_gz = select(mean_gz / len, 0.0, constant);
    for (var c = 0u; c < p.size; c++) {
        let g = f32(dy[dy_at + c]) * factor(first + c);
        z[z_at + c] = Z(r * (g - mean_g - (f32(x[x_at + c]) - mean) * r * mean_gz));
    }
}
