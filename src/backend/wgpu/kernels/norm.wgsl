// Statistics of group normalisation: a workgroup for each group of a sample. The result holds a and b per channel, so that
// x * a + b is normalised (and modulated). Starts and strides count single values.

struct Params {
    positions: u32,
    groups: u32,
    channels: u32,
    x0_channels: u32,
    x0_start: u32,
    x0_stride: u32,
    x1_start: u32,
    x1_stride: u32,
    m_start: u32,
    m_stride: u32,
    s_start: u32,
    s_stride: u32,
    out_start: u32,
    out_stride: u32,
    eps: f32,
}

@group(0) @binding(1) var<uniform> p: Params;
@group(0) @binding(4) var<storage, read> weight: array<f32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<storage, read_write> m: array<f32>;
@group(0) @binding(7) var<storage, read_write> s: array<f32>;
@group(0) @binding(8) var<storage, read_write> out: array<f32>;

fn body(id: u32) {
    let sample = id / p.groups;
    let group = id % p.groups;
    if sample >= call.batch {
        return;
    }
    let found = moments(sample * p.positions, group * SIZE);
    for (var i = me; i < SIZE; i += 256u) {
        let c = group * SIZE + i;
        var a = weight[c] * found.y;
        var b = fma(-a, found.x, bias[c]);
        if MODULATED {
            let factor = m[sample * p.m_stride + p.m_start + c];
            a *= factor;
            b = fma(b, factor, s[sample * p.s_stride + p.s_start + c]);
        }
        out[sample * p.out_stride + p.out_start + c] = a;
        out[sample * p.out_stride + p.out_start + p.channels + c] = b;
    }
}
