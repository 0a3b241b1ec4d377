// The gradient of group normalisation by its input, with that of a modulation and an activation behind it: a workgroup for each group
// of a sample. With z the normalised x, r its inverse deviation and g the gradient by z, it is r (g - mean(g) - z mean(g z)).
// Starts and strides count single values.

struct Params {
    positions: u32,
    groups: u32,
    x0_channels: u32,
    x0_start: u32,
    x0_stride: u32,
    x1_start: u32,
    x1_stride: u32,
    m_start: u32,
    m_stride: u32,
    s_start: u32,
    s_stride: u32,
    dy_start: u32,
    dy_stride: u32,
    residual_start: u32,
    residual_stride: u32,
    out_start: u32,
    out_stride: u32,
    eps: f32,
    slope: f32,
}

@group(0) @binding(1) var<uniform> p: Params;
// Factors, then offsets.
@group(0) @binding(4) var<storage, read> weight: array<f32>;
@group(0) @binding(5) var<storage, read_write> m: array<f32>;
@group(0) @binding(6) var<storage, read_write> s: array<f32>;
@group(0) @binding(7) var<storage, read_write> dy: array<D>;
@group(0) @binding(8) var<storage, read_write> residual: array<R>;
@group(0) @binding(9) var<storage, read_write> out: array<Z>;

override RESIDUAL: bool = false;
override ACTIVATION: u32 = 0;

// The gradient by z.
fn gradient(sample: u32, row: u32, c: u32, z: f32) -> f32 {
    var factor = weight[c];
    var offset = weight[p.groups * SIZE + c];
    if MODULATED {
        let by = m[sample * p.m_stride + p.m_start + c];
        factor *= by;
        offset = fma(offset, by, s[sample * p.s_stride + p.s_start + c]);
    }
    var g = factor * f32(dy[row * p.dy_stride + p.dy_start + c]);
    if ACTIVATION != NONE {
        g *= derivative(ACTIVATION, p.slope, vec4<f32>(fma(z, factor, offset))).x;
    }
    return g;
}

fn body(id: u32) {
    let sample = id / p.groups;
    let first = id % p.groups * SIZE;
    if sample >= call.batch {
        return;
    }
    let rows = sample * p.positions;
    let count = p.positions * SIZE;
    let found = moments(rows, first);
    let mean = found.x;
    let r = found.y;
    var sums = vec4<f32>(0.0);
    for (var i = me; i < count; i += 256u) {
        let row = rows + i / SIZE;
        let c = first + i % SIZE;
        let z = (value(row, c) - mean) * r;
        let g = gradient(sample, row, c, z);
        sums += vec4<f32>(g, g * z, 0.0, 0.0);
    }
    sums = total(sums) / f32(count);
    for (var i = me; i < count; i += 256u) {
        let row = rows + i / SIZE;
        let c = first + i % SIZE;
        let z = (value(row, c) - mean) * r;
        var v = r * (gradient(sample, row, c, z) - sums.x - z * sums.y);
        if RESIDUAL {
            v += f32(residual[row * p.residual_stride + p.residual_start + c]);
        }
        out[row * p.out_stride + p.out_start + c] = Z(v);
    }
}
