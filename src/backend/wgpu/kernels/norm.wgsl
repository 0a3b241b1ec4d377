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
@group(0) @binding(2) var<storage, read_write> x0: array<A>;
@group(0) @binding(3) var<storage, read_write> x1: array<B>;
@group(0) @binding(4) var<storage, read> weight: array<f32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<storage, read_write> m: array<f32>;
@group(0) @binding(7) var<storage, read_write> s: array<f32>;
@group(0) @binding(8) var<storage, read_write> out: array<f32>;

// Channels of a group.
override SIZE: u32 = 4;
override JOINED: bool = false;
override MODULATED: bool = false;

fn value(sample: u32, group: u32, i: u32) -> f32 {
    let row = sample * p.positions + i / SIZE;
    let c = group * SIZE + i % SIZE;
    if JOINED && c >= p.x0_channels {
        return f32(x1[row * p.x1_stride + p.x1_start + c - p.x0_channels]);
    }
    return f32(x0[row * p.x0_stride + p.x0_start + c]);
}

fn body(id: u32) {
    let sample = id / p.groups;
    let group = id % p.groups;
    if sample >= call.batch {
        return;
    }
    let count = p.positions * SIZE;
    var sum = 0.0;
    for (var i = me; i < count; i += 256u) {
        sum += value(sample, group, i);
    }
    let mean = total(vec4<f32>(sum)).x / f32(count);
    // A second pass, because the mean may be large beside the deviation.
    var squares = 0.0;
    var rest = 0.0;
    for (var i = me; i < count; i += 256u) {
        let d = value(sample, group, i) - mean;
        squares = fma(d, d, squares);
        rest += d;
    }
    let sums = total(vec4<f32>(squares, rest, 0.0, 0.0)) / f32(count);
    // What the rounding of the mean left over.
    let centre = mean + sums.y;
    let scale = 1.0 / sqrt(max(sums.x - sums.y * sums.y, 0.0) + p.eps);
    for (var i = me; i < SIZE; i += 256u) {
        let c = group * SIZE + i;
        var a = weight[c] * scale;
        var b = fma(-a, centre, bias[c]);
        if MODULATED {
            let factor = m[sample * p.m_stride + p.m_start + c];
            a *= factor;
            b = fma(b, factor, s[sample * p.s_stride + p.s_start + c]);
        }
        out[sample * p.out_stride + p.out_start + c] = a;
        out[sample * p.out_stride + p.out_start + p.channels + c] = b;
    }
}
