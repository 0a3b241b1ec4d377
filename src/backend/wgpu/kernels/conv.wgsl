// Convolution as an implicit matrix product: out[row, column] = sum over taps and input channels.
//
// A workgroup of TX x TY invocations makes a tile of 4 TY rows and TX quads of columns, 4 x 4 values each. It goes through the
// rows of the weights 16 at a time: these are 16 channels of one source at one tap. Both operands pass through workgroup memory;
// the input is normalised, activated, upsampled and padded on its way there. The order of summation does not depend on the tile.

@group(0) @binding(2) var<storage, read_write> x0: array<A4>;
@group(0) @binding(3) var<storage, read_write> x1: array<B4>;
@group(0) @binding(4) var<storage, read> weights: array<W4>;
@group(0) @binding(6) var<storage, read_write> ab: array<vec4<f32>>;

override TX: u32 = 16;
override TY: u32 = 16;
// Whether a second source is joined to the first along channels.
override JOINED: bool = false;
// Whether a number of channels is not a multiple of 4, so that a quad's end belongs to something else.
override RAGGED: bool = false;
override AFFINE: bool = false;
override BEFORE: u32 = 0;
// How often each row and column of the source is repeated; if SPREAD, zeros stand instead of repetitions.
override STRETCH: i32 = 1;
override SPREAD: bool = false;
// Whether `out` is f32 and takes partial sums for conv_reduce.wgsl.
override SPLIT: bool = false;

// Rows are a quad longer than they need be, so that rows of a subgroup lie in different banks.
const LINE = 5u;
var<workgroup> tile_x: array<vec4<f32>, TY * 4u * LINE>;
var<workgroup> tile_w: array<vec4<f32>, TX * 16u>;
// For each row: its sample (negative past the end) and the place of the window's first tap.
var<workgroup> places: array<vec3<i32>, TY * 4u>;

// A quad of the input at a tap. `second` chooses the source, `quad` its channels.
fn input(place: vec3<i32>, ky: i32, kx: i32, second: bool, quad: u32) -> vec4<f32> {
    let zero = vec4<f32>(0.0);
    let count = select(p.x0_channels, p.x1_channels, second);
    var y = place.y + ky;
    var x = place.z + kx;
    if place.x < 0 || quad * 4u >= count || y < 0 || x < 0 || y >= p.in_height || x >= p.in_width {
        return zero;
    }
    if STRETCH > 1 {
        if SPREAD && (y % STRETCH != 0 || x % STRETCH != 0) {
            return zero;
        }
        y /= STRETCH;
        x /= STRETCH;
    }
    let sample = u32(place.x);
    let at = sample * p.source_positions + u32(y) * p.source_width + u32(x);
    var v: vec4<f32>;
    if JOINED && second {
        v = vec4<f32>(x1[at * p.x1_stride + p.x1_start + quad]);
    } else {
        v = vec4<f32>(x0[at * p.x0_stride + p.x0_start + quad]);
    }
    if AFFINE {
        let c = sample * p.ab_stride + p.ab_start + quad + select(0u, p.x0_channels / 4u, second);
        v = fma(v, ab[c], ab[c + p.channels]);
    }
    v = activate(BEFORE, p.before_slope, v);
    if RAGGED {
        let lanes = quad * 4u + vec4<u32>(0u, 1u, 2u, 3u);
        v = select(zero, v, lanes < vec4<u32>(count));
    }
    return v;
}

@compute @workgroup_size(TX, TY)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let me = local.y * TX + local.x;
    let tiles = (p.columns + TX - 1u) / TX;
    let id = group.x + group.y * grid.x;
    let first_column = id % tiles * TX;
    let split = id / tiles % p.splits;
    let first_row = id / tiles / p.splits * TY * 4u;
    let rows = call.batch * p.positions;
    if first_row >= rows {
        return;
    }
    for (var i = me; i < TY * 4u; i += TX * TY) {
        let row = first_row + i;
        let at = row % p.positions;
        let y = i32(at / p.width) * p.stride - p.pad_top;
        let x = i32(at % p.width) * p.stride - p.pad_left;
        places[i] = vec3<i32>(select(-1, i32(row / p.positions), row < rows), y, x);
    }
    workgroupBarrier();

    // The blocks of 16 channels of each source at a tap, and where this split begins.
    let blocks0 = (p.x0_channels + 15u) / 16u;
    let blocks = blocks0 + (p.x1_channels + 15u) / 16u;
    let begin = split * p.split_steps;
    let end = min(begin + p.split_steps, p.steps);
    var block = begin % blocks;
    var kx = begin / blocks % p.kernel_width;
    var ky = begin / blocks / p.kernel_width;

    var s0 = vec4<f32>(0.0);
    var s1 = vec4<f32>(0.0);
    var s2 = vec4<f32>(0.0);
    var s3 = vec4<f32>(0.0);
    for (var step = begin; step < end; step++) {
        let second = block >= blocks0;
        let first_quad = select(block, block - blocks0, second) * 4u;
        for (var i = me; i < TY * 16u; i += TX * TY) {
            tile_x[i / 4u * LINE + i % 4u] = input(places[i / 4u], i32(ky), i32(kx), second, first_quad + i % 4u);
        }
        for (var i = me; i < TX * 16u; i += TX * TY) {
            let column = first_column + i % TX;
            var w = vec4<f32>(0.0);
            if column < p.columns {
                w = vec4<f32>(weights[(step * 16u + i / TX) * p.columns + column]);
            }
            tile_w[i] = w;
        }
        workgroupBarrier();
        for (var k = 0u; k < 4u; k++) {
            let row = local.y * 4u * LINE + k;
            let column = k * 4u * TX + local.x;
            let a0 = tile_x[row];
            let a1 = tile_x[row + LINE];
            let a2 = tile_x[row + 2u * LINE];
            let a3 = tile_x[row + 3u * LINE];
            let w0 = tile_w[column];
            let w1 = tile_w[column + TX];
            let w2 = tile_w[column + 2u * TX];
            let w3 = tile_w[column + 3u * TX];
            s0 = fma(vec4<f32>(a0.x), w0, s0);
            s1 = fma(vec4<f32>(a1.x), w0, s1);
            s2 = fma(vec4<f32>(a2.x), w0, s2);
            s3 = fma(vec4<f32>(a3.x), w0, s3);
            s0 = fma(vec4<f32>(a0.y), w1, s0);
            s1 = fma(vec4<f32>(a1.y), w1, s1);
            s2 = fma(vec4<f32>(a2.y), w1, s2);
            s3 = fma(vec4<f32>(a3.y), w1, s3);
            s0 = fma(vec4<f32>(a0.z), w2, s0);
            s1 = fma(vec4<f32>(a1.z), w2, s1);
            s2 = fma(vec4<f32>(a2.z), w2, s2);
            s3 = fma(vec4<f32>(a3.z), w2, s3);
            s0 = fma(vec4<f32>(a0.w), w3, s0);
            s1 = fma(vec4<f32>(a1.w), w3, s1);
            s2 = fma(vec4<f32>(a2.w), w3, s2);
            s3 = fma(vec4<f32>(a3.w), w3, s3);
        }
        workgroupBarrier();
        block++;
        if block == blocks {
            block = 0u;
            kx++;
            if kx == p.kernel_width {
                kx = 0u;
                ky++;
            }
        }
    }

    let column = first_column + local.x;
    if column >= p.columns {
        return;
    }
    let row = first_row + local.y * 4u;
    emit(split, row, rows, column, s0);
    emit(split, row + 1u, rows, column, s1);
    emit(split, row + 2u, rows, column, s2);
    emit(split, row + 3u, rows, column, s3);
}

fn emit(split: u32, row: u32, rows: u32, column: u32, sum: vec4<f32>) {
    if row >= rows {
        return;
    }
    if SPLIT {
        out[(split * rows + row) * p.columns + column] = Y4(sum);
    } else {
        finish(row, column, sum);
    }
}
