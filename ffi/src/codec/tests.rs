//! A latent model, which the C programs of ffi/tests have no file of.

use std::boxed::Box;
use std::ptr::{null, null_mut};
use std::vec;
use std::vec::Vec;

use undiffuse::graph::Param;
use undiffuse::model::ModelConfig;
use undiffuse::model::autoencoder::AutoencoderConfig;
use undiffuse::pipeline::Source;
use undiffuse::tensor::DType;
use undiffuse::weights::{SafeTensorsView, TensorToWrite, write_safetensors};

use super::*;
use crate::model::{undiffuse_model_free, undiffuse_model_get_info, undiffuse_model_info, undiffuse_model_options};
use crate::options::VersionedStruct as _;
use crate::run::{undiffuse_sample, undiffuse_session_free, undiffuse_session_run, undiffuse_session_x};
use crate::session::{undiffuse_session_new, undiffuse_session_options};
use crate::status::undiffuse_status::*;

const UNET: &str = r#"{"_class_name": "UNet2DModel", "sample_size": 8, "block_out_channels": [8], "layers_per_block": 1, "norm_num_groups": 4,
    "down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"], "add_attention": false}"#;
const KL: &str = r#"{"_class_name": "AutoencoderKL", "block_out_channels": [8, 8], "norm_num_groups": 4, "latent_channels": 3,
    "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"], "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"]}"#;
const VQ: &str = r#"{"_class_name": "VQModel", "block_out_channels": [8, 8], "norm_num_groups": 4, "num_vq_embeddings": 16,
    "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"], "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"]}"#;

fn weights(params: &[Param]) -> Vec<u8> {
    let tensors: Vec<_> =
        params.iter().map(|p| TensorToWrite { name: &p.name, dtype: DType::F32, shape: p.dims.as_slice() }).collect();
    let mut fill = |_: &str, out: &mut [f32]| {
        out.iter_mut().enumerate().for_each(|(i, o)| *o = 0.09 * (i % 7) as f32 - 0.25);
        Ok(())
    };
    let mut bytes = Vec::new();
    write_safetensors(&tensors, &Default::default(), &mut fill, &mut |b| {
        bytes.extend_from_slice(b);
        Ok(())
    })
    .unwrap();
    bytes
}

/// A packed file of both.
fn packed(autoencoder: &str) -> Vec<u8> {
    let unet = weights(ModelConfig::from_json(UNET).unwrap().build_any().unwrap().params());
    let vq = weights(&AutoencoderConfig::from_json(autoencoder).unwrap().parameters().unwrap());
    let of = |bytes| Box::new(SafeTensorsView::parse(bytes).unwrap());
    let scheduler = r#"{"_class_name": "DDIMScheduler", "num_train_timesteps": 100}"#;
    let source = Source::new(UNET.into(), Some(scheduler.into()), of(&unet)).unwrap();
    let source = source.with_decoder(autoencoder.into(), of(&vq)).unwrap();
    let mut packed = Vec::new();
    let mut sink = |b: &[u8]| {
        packed.extend_from_slice(b);
        Ok(())
    };
    source.pack(DType::F32, &mut sink).unwrap();
    packed
}

fn load(bytes: &[u8], decode_bytes: Option<usize>) -> (*mut undiffuse_model, undiffuse_status) {
    load_with(bytes, decode_bytes, 0)
}

fn load_with(
    bytes: &[u8],
    decode_bytes: Option<usize>,
    encode_bytes: usize,
) -> (*mut undiffuse_model, undiffuse_status) {
    let (mut model, mut options) = (null_mut(), undiffuse_model_options::defaults());
    options.encode_bytes = encode_bytes;
    if let Some(bytes) = decode_bytes {
        options.decode_bytes = bytes;
    }
    // SAFETY: bytes, options and outputs live through the call, here and below.
    let status = unsafe {
        crate::model::undiffuse_model_load_memory(bytes.as_ptr(), bytes.len(), &options, &mut model, null_mut())
    };
    (model, status)
}

fn info(model: *const undiffuse_model) -> undiffuse_model_info {
    let mut info = undiffuse_model_info::defaults();
    // SAFETY: as above.
    assert_eq!(unsafe { undiffuse_model_get_info(model, &mut info, null_mut()) }, UNDIFFUSE_OK);
    info
}

#[test]
fn a_latent_model_samples_images_in_one_call() {
    let bytes = packed(VQ);
    let (model, status) = load(&bytes, None);
    assert_eq!(status, UNDIFFUSE_OK);
    let i = info(model);
    assert_eq!((i.sample_len, i.data_len, i.data_rank, i.data_dims), (192, 768, 3, [3, 16, 16, 0]));
    assert!(i.decoder_weight_bytes > 0);
    let mut options = undiffuse_session_options::defaults();
    (options.batch, options.seed, options.thread_count) = (2, 5, 1);
    // A session and a codec, and all in one call.
    let (mut session, mut codec, mut x, mut len) = (null_mut(), null_mut(), null(), 0);
    let (mut apart, mut at_once) = (vec![0.0; 2 * 768], vec![0.0; 2 * 768]);
    let e = null_mut();
    // SAFETY: as above; x stands until the session is freed.
    unsafe {
        assert_eq!(undiffuse_session_new(model, null(), null(), &options, &mut session, e), UNDIFFUSE_OK);
        assert_eq!(undiffuse_session_run(session, e), UNDIFFUSE_OK);
        assert_eq!(undiffuse_session_x(session, &mut x, &mut len, e), UNDIFFUSE_OK);
        assert_eq!(len, 2 * 192);
        assert_eq!(undiffuse_codec_new(model, null(), &mut codec, e), UNDIFFUSE_OK);
        let mut i = undiffuse_codec_info::defaults();
        assert_eq!(undiffuse_codec_get_info(codec, &mut i, e), UNDIFFUSE_OK);
        assert_eq!((i.sample_len, i.data_len, i.is_decoder, i.tile_count, i.tile), (192, 768, 1, 1, [8, 8]));
        assert!(i.workspace_bytes > 0 && i.weight_bytes > 0);
        assert_eq!(undiffuse_codec_decode(codec, x, len, apart.as_mut_ptr(), apart.len(), e), UNDIFFUSE_OK);
        let (to, n) = (at_once.as_mut_ptr(), at_once.len());
        assert_eq!(undiffuse_sample(model, null(), null(), &options, to, n, e), UNDIFFUSE_OK);
        assert_eq!(undiffuse_sample(model, null(), null(), &options, to, 2 * 192, e), UNDIFFUSE_SHAPE);
        undiffuse_codec_free(codec);
        undiffuse_session_free(session);
        undiffuse_model_free(model);
    }
    assert!(apart == at_once && apart.iter().any(|v| *v != 0.0));
    // Without its decoder it has latents; with too few bytes for a tile it is refused.
    let (model, status) = load(&bytes, Some(0));
    assert_eq!(status, UNDIFFUSE_OK);
    assert_eq!((info(model).data_len, info(model).decoder_weight_bytes), (192, 0));
    // SAFETY: used no more.
    unsafe { undiffuse_model_free(model) };
    assert_eq!(load(&bytes, Some(100)).1, UNDIFFUSE_OUT_OF_MEMORY);
}

#[test]
fn a_latent_model_encodes_pictures() {
    for (autoencoder, has_posterior) in [(VQ, 0), (KL, 1)] {
        let bytes = packed(autoencoder);
        let e = null_mut();
        let data: Vec<f32> = (0..2 * 768).map(|i| (i % 11) as f32 / 5.5 - 1.0).collect();
        let (noise, mut x, mut mode) = (vec![1.0; 2 * 192], vec![0.0; 2 * 192], vec![0.0; 2 * 192]);
        // With the decoder and without.
        for decode_bytes in [None, Some(0)] {
            let (model, status) = load_with(&bytes, decode_bytes, 1 << 30);
            assert_eq!(status, UNDIFFUSE_OK);
            assert!(info(model).encoder_weight_bytes > 0);
            let (mut codec, mut i) = (null_mut(), undiffuse_codec_info::defaults());
            let (to, n) = (x.as_mut_ptr(), x.len());
            // SAFETY: as above.
            unsafe {
                assert_eq!(undiffuse_codec_new(model, null(), &mut codec, e), UNDIFFUSE_OK);
                assert_eq!(undiffuse_codec_get_info(codec, &mut i, e), UNDIFFUSE_OK);
                assert_eq!((i.encoded_len, i.encoded_dims, i.has_posterior), (768, [3, 16, 16, 0], has_posterior));
                assert!(i.encoder_tile_count == 1 && i.encoder_weight_bytes > 0 && i.workspace_bytes > 0);
                let encode = |len: usize, noise: *const f32, to: *mut f32, n: usize| {
                    undiffuse_codec_encode(codec, data.as_ptr(), len, noise, to, n, e)
                };
                assert_eq!(encode(data.len(), null(), mode.as_mut_ptr(), mode.len()), UNDIFFUSE_OK);
                assert_eq!(encode(data.len(), noise.as_ptr(), to, n), UNDIFFUSE_OK);
                assert_eq!(encode(data.len(), null(), to, n - 1), UNDIFFUSE_SHAPE);
                assert_eq!(encode(data.len() - 1, null(), to, n), UNDIFFUSE_SHAPE);
                assert_eq!(encode(data.len(), to, to, n), UNDIFFUSE_INVALID_ARGUMENT);
                undiffuse_codec_free(codec);
                undiffuse_model_free(model);
            }
            assert!(mode.iter().all(|v| v.is_finite()) && mode.iter().any(|v| *v != 0.0));
            assert_eq!(x != mode, has_posterior == 1);
        }
        // Where it was left out, and where a tile has no room.
        let (model, status) = load(&bytes, None);
        assert_eq!(status, UNDIFFUSE_OK);
        let (mut codec, mut i) = (null_mut(), undiffuse_codec_info::defaults());
        // SAFETY: as above.
        unsafe {
            assert_eq!(undiffuse_codec_new(model, null(), &mut codec, e), UNDIFFUSE_OK);
            assert_eq!(undiffuse_codec_get_info(codec, &mut i, e), UNDIFFUSE_OK);
            assert_eq!((i.encoded_len, i.encoder_weight_bytes), (0, 0));
            let status = undiffuse_codec_encode(codec, data.as_ptr(), data.len(), null(), x.as_mut_ptr(), x.len(), e);
            assert_eq!(status, UNDIFFUSE_UNSUPPORTED);
            undiffuse_codec_free(codec);
            undiffuse_model_free(model);
        }
        assert_eq!(load_with(&bytes, None, 100).1, UNDIFFUSE_OUT_OF_MEMORY);
    }
}
