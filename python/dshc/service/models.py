"""What goes over the wire: bodies and answers, as the OpenAPI description shows them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ..errors import shortened

__all__ = [
    "Answer",
    "CodeFormat",
    "Detail",
    "Error",
    "Info",
    "ItemAnswer",
    "Map",
    "Metric",
    "RandomAnswer",
    "SearchBody",
    "State",
]

Id = Annotated[
    StrictInt | Annotated[StrictStr, StringConstraints(max_length=4096)], Field(examples=["beach/301.png"])
]
Label = StrictInt | Annotated[StrictStr, StringConstraints(max_length=4096)]
# A list ends at its first error: pydantic keeps a kilobyte or two of each, and a body has room for millions.
Ids = Annotated[list[Id], Field(fail_fast=True)]
Labels = Annotated[list[Label], Field(fail_fast=True)]
CodesAsText = Annotated[list[StrictStr], Field(fail_fast=True)]
CodesAsBytes = Annotated[list[Annotated[list[StrictInt], Field(fail_fast=True)]], Field(fail_fast=True)]
Vectors = Annotated[list[Annotated[list[float], Field(fail_fast=True)]], Field(fail_fast=True)]
Detail = Literal["label", "code", "metadata"]
CodeFormat = Literal["hex", "base64", "bytes"]
Metric = Literal["inner_product", "cosine", "l2"]
Where = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
MOST_FILTERED = 10_000
MOST_RADIUS = 1 << 31
NEAREST = "The so many nearest items; by default 10, or as many as are allowed."
RESCORE = (
    "So many times k candidates, the nearest by their codes, are ordered by the vectors that the index keeps."
)
METRIC = "Of these vectors; by default inner_product. inner_product and cosine: largest first; l2 (squared): smallest."
ASYMMETRIC = (
    "Order by the real-valued outputs of the queries instead of their signs: finer, without vectors. "
    "For images and vectors, where the codes of the hasher are the signs of its outputs."
)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, content: Any) -> Any:
        """Refuse one unknown name, not each of them."""
        if not isinstance(content, dict):
            return content
        unknown = next((name for name in content if name not in cls.model_fields), None)
        if unknown is not None:
            raise PydanticCustomError(
                "unknown_name", "unknown name {name}", {"name": repr(shortened(unknown))}
            )
        return content


class FilterBody(_Body):
    """Which items may be answered; all that is given must hold."""

    ids: Ids | None = Field(None, description="One of these ids.", max_length=MOST_FILTERED)
    label: Labels | None = Field(
        None,
        description="One of these classes, by name, or by number where they have none.",
        max_length=MOST_FILTERED,
    )
    where: Where | None = Field(
        None, description="A condition on metadata.", examples=["year >= 2020 and camera in ('A', 'B')"]
    )


class SearchBody(_Body):
    """One of ``ids``, ``codes`` and ``vectors`` names the queries; at most one of ``k``, ``radius`` and ``precision``
    says which items are wanted."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"ids": ["beach/301.png"], "k": 10},
                {
                    "codes": ["00ff00ff00ff00ff"],
                    "code_format": "hex",
                    "radius": 8,
                    "include": ["label", "code"],
                },
                {"codes": [[0, 255, 0, 255]], "code_format": "bytes", "k": 5, "filter": {"label": ["beach"]}},
                {"vectors": [[0.1, -1.5, 0.25]], "precision": 0.95},
                {"vectors": [[0.1, -1.5, 0.25]], "asymmetric": True},
                {"ids": ["beach/301.png"], "k": 10, "rescore": 10, "metric": "cosine"},
                {"codes": ["00ff00ff00ff00ff", "ff00ff00ff00ff00"], "n_variants": 2},
            ]
        }
    )

    ids: Ids | None = Field(None, description="Items of the index to search from.", min_length=1)
    codes: CodesAsText | CodesAsBytes | None = Field(
        None,
        description="Packed codes, the lowest bit of a byte first, written as code_format says.",
        min_length=1,
    )
    code_format: CodeFormat = Field(
        "hex", description="hex: two digits per byte; base64 (RFC 4648); bytes: a list of 0 to 255."
    )
    vectors: Vectors | None = Field(
        None, description="Features, which the hasher of the index encodes.", min_length=1
    )
    k: StrictInt | None = Field(None, description=NEAREST, ge=1)
    radius: StrictInt | None = Field(
        None, description="All items within this distance.", ge=0, le=MOST_RADIUS
    )
    precision: float | None = Field(
        None,
        description="All items within the largest radius that has this precision, as measured.",
        gt=0,
        le=1,
    )
    n_variants: StrictInt = Field(
        1,
        description="So many queries in a row are variants of one; an item's distance is the least of theirs.",
        ge=1,
    )
    rescore: StrictInt | None = Field(None, description=RESCORE, ge=1)
    metric: Metric | None = Field(None, description=METRIC)
    rescore_vectors: Vectors | None = Field(
        None, description="With codes and rescore: a vector for each query.", min_length=1
    )
    asymmetric: StrictBool = Field(False, description=ASYMMETRIC)
    filter: FilterBody = Field(
        default_factory=lambda: FilterBody(), description="Which items may be answered."
    )
    include: list[Detail] = Field(["label"], description="What is told of items.", max_length=3)


class Item(BaseModel):
    id: str | int
    distance: int | float = Field(
        description="hamming: bits that differ; overlap: bits that both have; asymmetric: the sum of the sizes of the "
        "outputs whose signs are not the item's bits; else the metric's value of the vectors."
    )
    label: str | None = Field(None, description="Class, or classes joined by commas; null: not known.")
    code: str | None = Field(None, description="In hex.")
    metadata: dict[str, Any] | None = None


class Result(BaseModel):
    query: str | int = Field(description="The id that was given, else the number of the query, from 0 on.")
    code: str = Field(description="Of the query, in hex; of the first of its variants.")
    variants: list[str] | None = Field(
        None, description="The codes of all variants, where there are several."
    )
    predicted: str | None = Field(None, description="The class that the hasher predicts, where it does.")
    items: list[Item] = Field(
        description="Sorted by (distance, order in the index); rescored: by (value, distance of codes, order)."
    )
    truncated: bool = Field(description="Whether a radius holds more items than are answered.")


class Answer(BaseModel):
    n_bits: int
    score: Literal["hamming", "overlap"]
    ranked_by: Literal["hamming", "overlap", "asymmetric", "inner_product", "cosine", "l2"] = Field(
        description="What the distances are."
    )
    k: int | None = Field(description="Where the nearest were asked for.")
    radius: int | None = Field(description="Where a radius or a precision was.")
    results: list[Result] = Field(description="One per query, in their order.")
    missing_shards: list[str] | None = Field(
        None,
        description="Only where shards could not be had and answers without them are allowed: which ones.",
    )


class ItemAnswer(BaseModel):
    id: str | int
    label: str | None = None
    code: str
    metadata: dict[str, Any]


class RandomAnswer(BaseModel):
    ids: list[str | int]


class LimitsInfo(BaseModel):
    max_k: int
    max_queries: int
    max_upload: int = Field(description="Bytes of a request.")
    max_pixels: int
    max_seconds: float


class Info(BaseModel):
    name: str
    version: str
    n_items: int
    n_bits: int
    score: Literal["hamming", "overlap"]
    ids: Literal["int64", "text"]
    labels: Literal["none", "ids", "multi-hot"]
    class_names: list[str]
    metadata: dict[str, str] = Field(description="Columns and their Arrow types.")
    images: bool = Field(description="Whether images are accepted as queries.")
    n_features: int | None = Field(
        description="Length of vectors that are accepted as queries; null: none are."
    )
    image_variants: list[Literal["flip", "rotations", "crops"]] = Field(
        description="Variants of an image that can be searched for with it."
    )
    rescore: list[Literal["ids", "codes", "vectors", "images"]] = Field(
        description="Kinds of queries that can be rescored."
    )
    asymmetric: bool = Field(description="Whether images or vectors can be ranked by their outputs.")
    n_dimensions: int | None = Field(description="Of the vectors that the index keeps; null: it keeps none.")
    pictures: bool = Field(description="Whether items have pictures.")
    precision: bool = Field(description="Whether the precision within each radius was measured.")
    limits: LimitsInfo


class Point(BaseModel):
    x: float = Field(description="0 to 1.")
    y: float = Field(description="0 to 1.")
    code: str = Field(description="In hex.")
    n_items: int = Field(description="Items of this code, among those that were looked at.")
    label: str | None = Field(description="The most frequent class among them.")
    id: str | int = Field(description="One of them.")


class Map(BaseModel):
    """Codes laid out so that near ones lie near each other (t-SNE)."""

    state: Literal["computing", "ready", "failed"]
    points: list[Point]
    n_looked_at: int = Field(0, description="Items that the map is of.")
    n_codes: int = Field(0, description="Different codes among them; the most frequent are shown.")


class State(BaseModel):
    status: str


class Problem(BaseModel):
    code: str
    message: str


class Error(BaseModel):
    error: Problem
