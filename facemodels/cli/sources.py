"""Where models and data sets come from, for `facemodels doctor`: none of them may be passed on with this library."""

from typing import NamedTuple


class ModelSource(NamedTuple):
    """Where a model comes from.

    Attributes:
        file: The name of its file.
        page: Its official page.
        inside: Where the file is behind that page.
        beside: Files that belong in the same folder, what each is for, and where it is.
    """

    file: str
    page: str
    inside: str
    beside: tuple[str, ...] = ()


class DataSource(NamedTuple):
    """Where a data set comes from.

    Attributes:
        name: Its name.
        patterns: Names of its folder or archive.
        page: Its official page.
    """

    name: str
    patterns: tuple[str, ...]
    page: str


_TDDFA = "http://www.cbsr.ia.ac.cn/users/xiangyuzhu/projects/3DDFA/main.htm"

# By family, as in `facemodels.models.formats.FAMILIES`.
MODELS = {
    "ICT-FaceKit light": ModelSource(
        "generic_neutral_mesh.obj and the rest of its folder",
        "https://github.com/ICT-VGL/ICT-FaceKit (free, MIT)",
        "folder FaceXModel",
    ),
    "Basel 2009": ModelSource(
        "01_MorphableModel.mat",
        "https://faces.dmi.unibas.ch/bfm/ (by form)",
        "BaselFaceModel.tgz, folder PublicMM1",
        (
            "Exp_Pca.bin, for expressions: https://github.com/Juyong/3DFace, link CoarseData, Coarse_Dataset.zip",
            "std_exp.txt and BFM_exp_idx.mat, needed with Exp_Pca.bin: "
            "https://github.com/sicxu/Deep3DFaceRecon_pytorch, folder BFM",
        ),
    ),
    "Basel 2009 of Deep3DFaceRecon": ModelSource(
        "BFM_model_front.mat",
        "https://github.com/sicxu/Deep3DFaceRecon_pytorch",
        "folder BFM, where its first run writes it, made of Basel 2009 and Exp_Pca.bin",
    ),
    "Basel 2009 of 300W-LP": ModelSource(
        "Model_Shape.mat",
        _TDDFA,
        "300W-LP.zip, folder Code/ModelGeneration, where ModelGenerate.m makes it of Basel 2009",
        (
            "Model_Exp.mat, needed: the same folder",
            "BFM_UV.mat, for texture coordinates: https://github.com/cleardusk/3DDFA_V2, folder configs",
        ),
    ),
    "Basel 2009 of 3DDFA_V2": ModelSource(
        "bfm_noneck_v3.pkl",
        "https://github.com/cleardusk/3DDFA_V2",
        "folder configs",
        (
            "tri.pkl and param_mean_std_62d_120x120.pkl, needed: the same folder",
            "indices.npy and BFM_UV.mat, for texture coordinates: the same folder",
        ),
    ),
    "Basel 2017": ModelSource(
        "model2017-1_face12_nomouth.h5 (face) or model2017-1_bfm_nomouth.h5 (with ears)",
        "https://faces.dmi.unibas.ch/bfm/bfm2017.html (by form)",
        "the file itself",
    ),
    "Basel 2019": ModelSource(
        "model2019_face12.h5 (face), model2019_bfm.h5 (with ears) or model2019_fullHead.h5",
        "https://faces.dmi.unibas.ch/bfm/bfm2019.html (by form)",
        "the file itself",
    ),
    "FLAME 2019, 2020, 2023": ModelSource(
        "generic_model.pkl (2019, 2020) or flame2023.pkl",
        "https://flame.is.tue.mpg.de (by account)",
        "FLAME2020.zip or FLAME2023.zip",
        (
            "landmark_embedding.npy, for landmarks: https://github.com/yfeng95/DECA, folder data",
            "or flame_static_embedding.pkl and flame_dynamic_embedding.npy: "
            "https://github.com/soubhiksanyal/RingNet, folder flame_model",
            "FLAME_masks.pkl, for regions: the FLAME page, FLAME Vertex Masks",
            "head_template.obj, for texture coordinates: https://github.com/yfeng95/DECA, folder data",
        ),
    ),
    "Surrey": ModelSource(
        "sfm_shape_3448.bin",
        "https://github.com/patrikhuber/eos",
        "folder share",
        ("expression_blendshapes_3448.bin, for expressions, and ibug_to_sfm.txt, for landmarks: the same folder",),
    ),
}
DATA_SETS = (
    DataSource("AFLW2000-3D", ("AFLW2000*", "aflw2000*.zip"), _TDDFA),
    DataSource("300W-LP", ("300W*LP*",), _TDDFA),
)
