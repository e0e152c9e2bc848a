"""Classes of Keras without a rule, and why: the sentence goes on behind the name of the class."""

from __future__ import annotations

from pruning.rules import barrier

barrier(
    "runs code that is not in the file: a model that holds it is refused",
    "layers",
    ["FlaxLayer", "JaxLayer", "Lambda", "TFSMLayer", "TorchModuleWrapper"],
)
barrier(
    "has frequencies for channels, made from all numbers of a signal",
    "layers",
    ["MelSpectrogram", "STFTSpectrogram"],
)
barrier("runs other layers of preprocessing, on data that have no units", "layers", ["MaxNumBoundingBoxes", "Pipeline"])
barrier(
    "is a cell or a base of other layers, which stands in no model by itself",
    "layers",
    ["GRUCell", "LSTMCell", "Layer", "SimpleRNNCell", "StackedRNNCells", "Wrapper"],
)

barrier(
    "runs functions of Python, and what these do is not in the file",
    "ops",
    [
        "AssociativeScan", "Cond", "ForiLoop", "Function", "JVP", "Map", "Scan", "Switch", "VectorizedMap", "WhileLoop",
    ],
)  # fmt: skip
barrier(
    "writes or reads at places that numbers of a tensor tell",
    "ops",
    ["MapCoordinates", "Scatter", "ScatterUpdate", "Slice", "SliceUpdate", "UnravelIndex"],
)
barrier(
    "works on whole matrices: without a row or column of one every number of what it makes is another",
    "ops",
    [
        "Cholesky", "CholeskyInverse", "Corrcoef", "Cross", "Det", "Eig", "Eigh", "Inv", "Kron", "Logdet", "Lstsq",
        "LuFactor", "MatrixRank", "Pinv", "Qr", "SVD", "Slogdet", "Solve", "SolveTriangular", "Vander",
    ],
)  # fmt: skip
barrier(
    "picks numbers by where they stand in a matrix, and units that go would move them",
    "ops",
    ["Diag", "Diagflat", "Diagonal", "Trace", "Tril", "Triu"],
)
barrier(
    "flattens its tensors, samples among them",
    "ops",
    ["Outer", "Ravel", "Vdot"],
)
barrier(
    "counts or collects values of a whole tensor, samples among them",
    "ops",
    ["AllClose", "Bincount", "Histogram", "InTopK", "MultiHot", "Nonzero", "SearchSorted", "Unique"],
)
barrier(
    "makes a tensor out of sizes or bounds that it is given as numbers",
    "ops",
    ["Arange", "Full", "Geomspace", "Linspace", "Logspace", "Meshgrid"],
)
barrier("tells how many numbers or axes a whole tensor has, samples among them", "ops", ["Ndim", "Size"])
barrier("makes a tensor whose numbers nothing sets", "ops", ["EmptyLike"])
barrier(
    "has a shape or arguments that Keras 3.15 writes down wrongly: no layer can follow it",
    "ops",
    ["AdaptiveAveragePool", "AdaptiveMaxPool", "ConvTranspose"],
)
barrier("reads the bytes of numbers as others", "ops", ["View"])
barrier(
    "mixes neighbours along an axis by rules of its own",
    "ops",
    ["Correlate", "ExtractSequences", "ISTFT", "STFT", "SobelEdges", "Trapezoid"],
)
barrier("works on colours", "ops", ["HSVToRGB", "RGBToGrayscale", "RGBToHSV"])
barrier("moves pixels at random or by tensors of sizes", "ops", ["ElasticTransform", "ScaleAndTranslate"])
barrier("takes sizes for the axes of a tensor of fixed batch apart and together", "ops", ["Rearrange"])
barrier(
    "is a loss or a decoder, which compares whole outputs",
    "ops",
    [
        "BinaryCrossentropy", "CTCDecode", "CTCLoss", "CategoricalCrossentropy", "PSNR", "SSIM",
        "SparseCategoricalCrossentropy",
    ],
)  # fmt: skip
barrier("is a base of other operations, which stands in no model by itself", "ops", ["Operation", "SegmentReduction"])
