//! The model classes of diffusers that this library has not, so that an error can say so.

/// The names in diffusers 0.42.1.
const NAMES: &str = "\
    AceStepTransformer1DModel AllegroTransformer3DModel AnimaTextConditioner AnyFlowFARTransformer3DModel \
    AnyFlowTransformer3DModel AsymmetricAutoencoderKL AuraFlowTransformer2DModel AutoencoderDC AutoencoderKL \
    AutoencoderKLAllegro AutoencoderKLCogVideoX AutoencoderKLCosmos AutoencoderKLFlux2 AutoencoderKLHunyuanImage \
    AutoencoderKLHunyuanImageRefiner AutoencoderKLHunyuanVideo AutoencoderKLHunyuanVideo15 AutoencoderKLKVAE \
    AutoencoderKLKVAEAudio AutoencoderKLKVAEVideo AutoencoderKLLTX2Audio AutoencoderKLLTX2Video \
    AutoencoderKLLTXVideo AutoencoderKLMagvit AutoencoderKLMiniMaxH3 AutoencoderKLMiniMaxH3Audio AutoencoderKLMochi \
    AutoencoderKLQwenImage AutoencoderKLQwenImage21 AutoencoderKLTemporalDecoder AutoencoderKLWan AutoencoderOobleck \
    AutoencoderRAE AutoencoderSAME AutoencoderTiny AutoencoderVidTok BriaFibo2Transformer2DModel \
    BriaFiboTransformer2DModel BriaTransformer2DModel ChromaTransformer2DModel ChronoEditTransformer3DModel \
    CogVideoXTransformer3DModel CogView3PlusTransformer2DModel CogView4Transformer2DModel ConsisIDTransformer3DModel \
    ConsistencyDecoderVAE ControlNetModel ControlNetUnionModel ControlNetXSAdapter Cosmos3AVAEAudioTokenizer \
    Cosmos3OmniTransformer CosmosControlNetModel CosmosTransformer3DModel \
    DreamLiteTransformer2DModel DreamLiteUNetModel DualTransformer2DModel EasyAnimateTransformer3DModel \
    ErnieImageTransformer2DModel Flux2Transformer2DModel Flux3Transformer2DModel FluxControlNetModel \
    FluxMultiControlNetModel FluxTransformer2DModel GlmImageTransformer2DModel HeliosTransformer3DModel \
    HiDreamImageTransformer2DModel HunyuanDiT2DControlNetModel HunyuanDiT2DModel HunyuanDiT2DMultiControlNetModel \
    HunyuanImageTransformer2DModel HunyuanVideo15Transformer3DModel HunyuanVideoFramepackTransformer3DModel \
    HunyuanVideoTransformer3DModel I2VGenXLUNet Ideogram4Transformer2DModel JoyImageEditPlusTransformer3DModel \
    JoyImageEditTransformer3DModel Kandinsky3UNet Kandinsky5Transformer3DModel Kandinsky6SRLatentUpscalerBank \
    Kandinsky6SRTransformer3DModel Kandinsky6SRVAE Kandinsky6Transformer3DModel Krea2Transformer2DModel \
    LTX2VideoDiffusionDecoderModel LTX2VideoTransformer3DModel LTXVideoTransformer3DModel LatteTransformer3DModel \
    LongCatAudioDiTTransformer LongCatAudioDiTVae LongCatImageTransformer2DModel Lumina2Transformer2DModel \
    LuminaNextDiT2DModel MMAudioVAE MMAudioVocoder MiniMaxH3Transformer3DModel MiniMaxMusic3ConditionEncoder \
    MiniMaxMusic3RVQDepthDecoder MiniMaxMusic3Transformer1DModel MiniMaxMusic3Vocoder MochiTransformer3DModel \
    MotifVideoTransformer3DModel MotionAdapter MultiAdapter MultiControlNetModel MultiControlNetUnionModel \
    NucleusMoEImageTransformer2DModel OmniGenTransformer2DModel OvisImageTransformer2DModel PRXTransformer2DModel \
    PixArtTransformer2DModel PriorTransformer QwenImage21Transformer2DModel QwenImageControlNetModel \
    QwenImageMultiControlNetModel QwenImageTransformer2DModel RFD4ProteinaAutoencoder RFD4ProteinaTransformer \
    SD3ControlNetModel SD3MultiControlNetModel SD3Transformer2DModel SanaControlNetModel SanaTransformer2DModel \
    SanaVideoTransformer3DModel SanaWMLTX2RefinerTransformer3DModel SanaWMTransformer3DModel \
    SkyReelsV2Transformer3DModel SparseControlNetModel StableAudio3DiTModel StableAudioDiTModel StableCascadeUNet \
    T2IAdapter T5FilmDecoder Transformer2DModel TransformerTemporalModel \
    UNet3DConditionModel UNetControlNetXSModel UNetMotionModel UNetSpatioTemporalConditionModel UVit2DModel VQModel \
    WanAnimate2Transformer3DModel WanAnimateTransformer3DModel WanTransformer3DModel WanVACETransformer3DModel \
    ZImageControlNetModel ZImageTransformer2DModel";

/// Whether a class is one of diffusers' models other than `UNet2DModel`.
pub(super) fn is_of_diffusers(class: &str) -> bool {
    NAMES.split(' ').any(|name| name == class)
}
