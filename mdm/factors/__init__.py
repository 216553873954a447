"""After the runs, MFM's factors on segments (paper 003, section 3.4 and Figure 9): what F_y and each F_m do to what is generated.

MFM decodes each modality from F_y, which all modalities and the label share, and from its own F_m. Paper 003 reads three things
off a trained model, and each is measured here beside what it would read if nothing were there:

    ratios       Depen(F_y, X̂_m) / Depen(F_m, X̂_m), Eq. 5: how informative a modality is of the label, the paper says. Beside
                 both dependences stands what they are after the segments of one side were permuted
    flow         ‖∂x̂_m^t/∂f_y‖²_F, Eq. 7: large at the words that carry sentiment, the paper says. A decoder reads its factors
                 at the first step only and no word at all, so flow may be a function of t; how much of it is, is measured
    generation   f_y of one segment with f_m of another, or of the prior: labels follow F_y and styles F_m, the paper says

x̂ is what `MFM.decode` gives, for words their probabilities: log probabilities are known but for a constant, and the embedding of
words differs from run to run in scale. A segment as one vector, X̂, is the mean over its real steps, as the paper's supplement F
has it (it prints 1/n for 1/T). For words it is the share of each word that the decoder expects.
"""

from mdm.factors.dependence import KERNELS, LEVEL, depen, ratios
from mdm.factors.exchange import Probe, generation, variance_shares
from mdm.factors.gradient_flow import SENTIMENT, flow, flow_statistics, flows, within, without_position
from mdm.factors.inference import Inferred, generated_means, inferred, mfm

__all__ = [
    "KERNELS",
    "LEVEL",
    "SENTIMENT",
    "Inferred",
    "Probe",
    "depen",
    "flow",
    "flow_statistics",
    "flows",
    "generated_means",
    "generation",
    "inferred",
    "mfm",
    "ratios",
    "variance_shares",
    "within",
    "without_position",
]
