// What looks at a window of pixels and is no implicit matrix product: convolutions with dilation or groups, their adjoints, max pooling and
// its gradient, one value of the result for each invocation; and the row of a table that is nearest to a position. Starts and strides count
// single values.

struct Params {
    positions: u32,    // of the result
    width: i32,        // of the result
    channels: u32,     // of the result
    x_height: i32,
    x_width: i32,
    x_channels: u32,
    x_start: u32,
    x_stride: u32,
    y_height: i32,     // of dy, with its width, start and stride
    y_width: i32,
    y_start: u32,
    y_stride: u32,
    z_start: u32,
    z_stride: u32,
    kernel_height: i32,
    kernel_width: i32,
    stride: i32,
    top: i32,
    left: i32,
    dilation: i32,
    groups: u32,
    rows: u32,         // of the table
}

@group(0) @binding(1) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read_write> x: array<X>;
@group(0) @binding(3) var<storage, read_write> y: array<Y>;
// A kernel [O, C / groups, height, width], or a table.
@group(0) @binding(4) var<storage, read> weight: array<f32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<storage, read_write> z: array<Z>;

const CONV = 0u;
const CONV_ADJOINT = 1u;
const MAX_POOL = 2u;
const MAX_POOL_GRAD = 3u;
const NEAREST_ROW = 4u;

override OP: u32 = 0;
override BIAS: u32 = 0;

fn x_at(sample: u32, row: i32, column: i32) -> u32 {
    return (sample * u32(p.x_height * p.x_width) + u32(row * p.x_width + column)) * p.x_stride + p.x_start;
}

fn conv(sample: u32, row: i32, column: i32, c: u32) -> f32 {
    let inputs = p.x_channels / p.groups;
    let first = c / (p.channels / p.groups) * inputs;
    let taps = u32(p.kernel_height * p.kernel_width);
    var sum = 0.0;
    for (var i = 0; i < p.kernel_height; i++) {
        let source_row = row * p.stride + i * p.dilation - p.top;
        if source_row < 0 || source_row >= p.x_height {
            continue;
        }
        for (var j = 0; j < p.kernel_width; j++) {
            let source_column = column * p.stride + j * p.dilation - p.left;
            if source_column < 0 || source_column >= p.x_width {
                continue;
            }
            let source = x_at(sample, source_row, source_column) + first;
            let tap = c * inputs * taps + u32(i * p.kernel_width + j);
            for (var k = 0u; k < inputs; k++) {
                sum = fma(weight[tap + k * taps], f32(x[source + k]), sum);
            }
        }
    }
    if BIAS == 1u {
        sum += bias[c];
    }
    return sum;
}

// x is the gradient, the result has the channels that the convolution takes.
fn conv_adjoint(sample: u32, row: i32, column: i32, c: u32) -> f32 {
    let inputs = p.channels / p.groups;
    let outputs = p.x_channels / p.groups;
    let first = c / inputs * outputs;
    let taps = u32(p.kernel_height * p.kernel_width);
    var sum = 0.0;
    for (var i = 0; i < p.kernel_height; i++) {
        let above = row + p.top - i * p.dilation;
        if above < 0 || above % p.stride != 0 || above / p.stride >= p.x_height {
            continue;
        }
        for (var j = 0; j < p.kernel_width; j++) {
            let before = column + p.left - j * p.dilation;
            if before < 0 || before % p.stride != 0 || before / p.stride >= p.x_width {
                continue;
            }
            let source = x_at(sample, above / p.stride, before / p.stride) + first;
            let tap = (first * inputs + c % inputs) * taps + u32(i * p.kernel_width + j);
            for (var k = 0u; k < outputs; k++) {
                sum = fma(weight[tap + k * inputs * taps], f32(x[source + k]), sum);
            }
        }
    }
    return sum;
}

// The place of the largest value under a window, of equal ones the first.
fn largest(sample: u32, row: i32, column: i32, c: u32) -> vec2<i32> {
    var place = vec2<i32>(-1, -1);
    var most = 0.0;
    for (var i = 0; i < p.kernel_height; i++) {
        for (var j = 0; j < p.kernel_width; j++) {
            let source = vec2<i32>(row * p.stride + i - p.top, column * p.stride + j - p.left);
            if source.x < 0 || source.x >= p.x_height || source.y < 0 || source.y >= p.x_width {
                continue;
            }
            let v = f32(x[x_at(sample, source.x, source.y) + c]);
            if place.x < 0 || v > most {
                most = v;
                place = source;
            }
        }
    }
    return place;
}

fn max_pool_grad(sample: u32, row: i32, column: i32, c: u32) -> f32 {
    var sum = 0.0;
    // The windows that this pixel is under.
    for (var i = 0; i < p.kernel_height; i++) {
        let above = row + p.top - i;
        if above < 0 || above % p.stride != 0 || above / p.stride >= p.y_height {
            continue;
        }
        for (var j = 0; j < p.kernel_width; j++) {
            let before = column + p.left - j;
            if before < 0 || before % p.stride != 0 || before / p.stride >= p.y_width {
                continue;
            }
            let at = vec2<i32>(above / p.stride, before / p.stride);
            let place = largest(sample, at.x, at.y, c);
            if place.x == row && place.y == column {
                let source = sample * u32(p.y_height * p.y_width) + u32(at.x * p.y_width + at.y);
                sum += f32(y[source * p.y_stride + p.y_start + c]);
            }
        }
    }
    return sum;
}

fn nearest_row(row: u32) {
    let source = row * p.x_stride + p.x_start;
    var nearest = 0u;
    var least = 0.0;
    for (var i = 0u; i < p.rows; i++) {
        var distance = 0.0;
        for (var c = 0u; c < p.channels; c++) {
            let d = f32(x[source + c]) - weight[i * p.channels + c];
            distance = fma(d, d, distance);
        }
        if i == 0u || distance < least {
            least = distance;
            nearest = i;
        }
    }
    for (var c = 0u; c < p.channels; c++) {
        // What is not finite stays so: times 0 it is NaN.
        z[row * p.z_stride + p.z_start + c] = Z(weight[nearest * p.channels + c] + 0.0 * least);
    }
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let i = (group.x + group.y * grid.x) * 256u + local.x;
    if OP == NEAREST_ROW {
        if i < call.batch * p.positions {
            nearest_row(i);
        }
        return;
    }
    let row = i / p.channels;
    if row >= call.batch * p.positions {
        return;
    }
    let c = i % p.channels;
    let sample = row / p.positions;
    let at = i32(row % p.positions);
    let place = vec2<i32>(at / p.width, at % p.width);
    var v = 0.0;
    switch OP {
        case CONV: { v = conv(sample, place.x, place.y, c); }
        case CONV_ADJOINT: { v = conv_adjoint(sample, place.x, place.y, c); }
        case MAX_POOL: {
            let source = largest(sample, place.x, place.y, c);
            v = f32(x[x_at(sample, source.x, source.y) + c]);
        }
        default: { v = max_pool_grad(sample, place.x, place.y, c); }
    }
    z[row * p.z_stride + p.z_start + c] = Z(v);
}
