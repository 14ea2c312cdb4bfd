"""Free-form grounding written by models: caption, refine boxes, write questions, check.

Against any server that speaks the OpenAI chat protocol (vLLM, SGLang, a hosted model). Source:
arXiv 2501.05767, section 4.2. A model never writes a coordinate of the result: it names objects
by number, and the program writes their boxes.
"""

from migician.build.synthesis.pipeline import synthesise
from migician.build.synthesis.requests import SynthesisSettings

__all__ = ["SynthesisSettings", "synthesise"]
