// Each channel alone: zeros between pixels (up), zeros around them or cropping (before), a separable filter, every down-th pixel.
// Starts and strides count single values.

struct Params {
    positions: u32, // of the result
    width: u32,     // of the result
    channels: u32,
    in_height: i32,
    in_width: i32,
    x_start: u32,
    x_stride: u32,
    z_start: u32,
    z_stride: u32,
    up: i32,
    down: i32,
    before: i32,
    taps: i32,
}

@group(0) @binding(1) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read_write> x: array<X>;
@group(0) @binding(3) var<storage, read> taps: array<f32>;
@group(0) @binding(4) var<storage, read_write> z: array<Z>;

// Where the filter's tap meets the image at v of the padded and stuffed one; -1 for a zero.
fn place(v: i32, size: i32) -> i32 {
    let at = v - p.before;
    if at < 0 || at % p.up != 0 || at / p.up >= size {
        return -1;
    }
    return at / p.up;
}

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
    let at = row % p.positions;
    let first_y = i32(at / p.width) * p.down;
    let first_x = i32(at % p.width) * p.down;
    var sum = 0.0;
    for (var a = 0; a < p.taps; a++) {
        let y = place(first_y + a, p.in_height);
        if y < 0 {
            continue;
        }
        var line = 0.0;
        for (var b = 0; b < p.taps; b++) {
            let column = place(first_x + b, p.in_width);
            if column >= 0 {
                let source = (i32(sample) * p.in_height + y) * p.in_width + column;
                line = fma(taps[p.taps - 1 - b], f32(x[u32(source) * p.x_stride + p.x_start + c]), line);
            }
        }
        sum = fma(taps[p.taps - 1 - a], line, sum);
    }
    z[row * p.z_stride + p.z_start + c] = Z(sum);
}
