"""The base model as a parameter of stages."""

from typing import Annotated, ClassVar, Literal, Self

from adamergex.execution.stage import Needs, Params, Unkeyed

# What every result of a model depends on.
PACKAGES = ("torch", "transformers", "tokenizers", "peft", "numpy")


class BaseModel(Params):
    """Which model computes, and in which precision.

    Attributes:
        name: as `adapter_config.json` calls it.
        fingerprint: a hash of the weights, or the commit that they were downloaded from.
        family: causal, seq2seq or encoder.
        dtype: of the frozen weights.
        quantization: 4bit or 8bit, where the frozen weights are held in fewer bits.
        trust_remote_code: whether the user allowed Python code in the model's repository.
        weight_bytes: of the files of the weights.
        template: SHA-256 of its chat template, where items are asked through it.
    """

    name: str
    fingerprint: str
    family: Literal["causal", "seq2seq", "encoder"]
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    quantization: Literal["4bit", "8bit"] | None = None
    trust_remote_code: bool = False
    weight_bytes: Annotated[int, Unkeyed] = 0
    template: str | None = None
    optional: ClassVar[tuple[str, ...]] = ("template",)

    def asked(self, chat: bool) -> Self:
        """The model as results depend on it: its chat template counts where items are asked through it, and only there."""
        return self if chat else self.model_copy(update={"template": None})

    @property
    def packages(self) -> tuple[str, ...]:
        """The distributions that its results depend on."""
        return (*PACKAGES, "bitsandbytes") if self.quantization else PACKAGES

    @property
    def needs(self) -> Needs:
        """What computing with it takes."""
        return Needs(True, self.weight_bytes, f"{self.fingerprint} {self.dtype} {self.quantization}")
