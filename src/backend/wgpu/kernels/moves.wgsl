// What moves values about and changes none: one value of the result for each invocation. Starts and strides count single values.

struct Params {
    positions: u32,   // of the result; of PLACE: of x
    height: i32,      // of the result
    width: i32,       // of the result
    channels: u32,    // of the result
    x_positions: u32, // of PLACE: of the result
    x_height: i32,
    x_width: i32,
    x_channels: u32,
    x_start: u32,
    x_stride: u32,
    z_start: u32,
    z_stride: u32,
    first: i32,
    second: i32,
}

@group(0) @binding(1) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read_write> x: array<X>;
// A parameter, positions outermost.
@group(0) @binding(3) var<storage, read> stored: array<f32>;
@group(0) @binding(4) var<storage, read_write> z: array<Z>;

// Blocks of first x second pixels; BLOCKS_FIRST is the order of the deeper side's channels.
const DEPTH_TO_SPACE = 0u;
const SPACE_TO_DEPTH = 1u;
// first rows above and second columns to the left.
const REFLECT_PAD = 2u;
const REFLECT_PAD_ADJOINT = 3u;
// A matrix of first x second runs, transposed.
const SHUFFLE_CHANNELS = 4u;
// Positions from first on, zeros outside.
const POSITIONS = 5u;
// x becomes positions first, first + 1, .. of the result.
const PLACE = 6u;
// The parameter.
const PARAMETER = 7u;

override OP: u32 = 0;
override BLOCKS_FIRST: u32 = 0;

fn at(sample: u32, position: i32, channel: u32) -> f32 {
    return f32(x[(sample * p.x_positions + u32(position)) * p.x_stride + p.x_start + channel]);
}

// Where a row or column of the padded image comes from.
fn mirrored(v: i32, before: i32, size: i32) -> i32 {
    let d = abs(v - before);
    return select(2 * (size - 1) - d, d, d < size);
}

// The sum over the columns that mirror this one, in one row.
fn folded(sample: u32, row: i32, column: i32, c: u32) -> f32 {
    let line = row * p.x_width;
    var v = at(sample, line + column + p.second, c);
    if column > 0 && column <= p.second {
        v += at(sample, line + p.second - column, c);
    }
    let far = p.second + 2 * (p.width - 1) - column;
    if column < p.width - 1 && far < p.x_width {
        v += at(sample, line + far, c);
    }
    return v;
}

fn value(sample: u32, position: u32, c: u32) -> f32 {
    let row = i32(position) / p.width;
    let column = i32(position) % p.width;
    let block = u32(p.first * p.second);
    switch OP {
        case DEPTH_TO_SPACE: {
            let inside = u32((row % p.first) * p.second + column % p.second);
            let d = select(c * block + inside, inside * p.channels + c, BLOCKS_FIRST == 1u);
            return at(sample, row / p.first * p.x_width + column / p.second, d);
        }
        case SPACE_TO_DEPTH: {
            let inside = i32(select(c % block, c / p.x_channels, BLOCKS_FIRST == 1u));
            let d = select(c / block, c % p.x_channels, BLOCKS_FIRST == 1u);
            let y = row * p.first + inside / p.second;
            return at(sample, y * p.x_width + column * p.second + inside % p.second, d);
        }
        case REFLECT_PAD: {
            return at(sample, mirrored(row, p.first, p.x_height) * p.x_width + mirrored(column, p.second, p.x_width), c);
        }
        case REFLECT_PAD_ADJOINT: {
            var v = folded(sample, row + p.first, column, c);
            if row > 0 && row <= p.first {
                v += folded(sample, p.first - row, column, c);
            }
            let far = p.first + 2 * (p.height - 1) - row;
            if row < p.height - 1 && far < p.x_height {
                v += folded(sample, far, column, c);
            }
            return v;
        }
        case SHUFFLE_CHANNELS: {
            let run = p.channels / block;
            let k = c / run;
            let source = (k % u32(p.first)) * u32(p.second) + k / u32(p.first);
            return at(sample, i32(position), source * run + c % run);
        }
        case POSITIONS: {
            let source = i32(position) + p.first;
            if source < 0 || u32(source) >= p.x_positions {
                return 0.0;
            }
            return at(sample, source, c);
        }
        default: {
            return stored[position * p.channels + c];
        }
    }
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
    let position = row % p.positions;
    if OP == PLACE {
        let to = sample * p.x_positions + u32(p.first) + position;
        z[to * p.z_stride + p.z_start + c] = Z(f32(x[row * p.x_stride + p.x_start + c]));
        return;
    }
    z[row * p.z_stride + p.z_start + c] = Z(value(sample, position, c));
}
