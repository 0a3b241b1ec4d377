// What norm.wgsl and norm_grad.wgsl share: the joined sources and the moments of a group.

@group(0) @binding(2) var<storage, read_write> x0: array<A>;
@group(0) @binding(3) var<storage, read_write> x1: array<B>;

// Channels of a group.
override SIZE: u32 = 4;
override JOINED: bool = false;
override MODULATED: bool = false;

fn value(row: u32, c: u32) -> f32 {
    if JOINED && c >= p.x0_channels {
        return f32(x1[row * p.x1_stride + p.x1_start + c - p.x0_channels]);
    }
    return f32(x0[row * p.x0_stride + p.x0_start + c]);
}

// The mean of a group, and one over its deviation. `rows` and `first` are where its rows and channels begin.
fn moments(rows: u32, first: u32) -> vec2<f32> {
    let count = p.positions * SIZE;
    var sum = 0.0;
    for (var i = me; i < count; i += 256u) {
        sum += value(rows + i / SIZE, first + i % SIZE);
    }
    let mean = total(vec4<f32>(sum)).x / f32(count);
    // A second pass, because the mean may be large beside the deviation.
    var squares = 0.0;
    var rest = 0.0;
    for (var i = me; i < count; i += 256u) {
        let d = value(rows + i / SIZE, first + i % SIZE) - mean;
        squares = fma(d, d, squares);
        rest += d;
    }
    let sums = total(vec4<f32>(squares, rest, 0.0, 0.0)) / f32(count);
    // With what the rounding of the mean left over.
    return vec2<f32>(mean + sums.y, 1.0 / sqrt(max(sums.x - sums.y * sums.y, 0.0) + p.eps));
}
