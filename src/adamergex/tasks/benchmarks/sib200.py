"""SIB-200: the topic of a sentence, one of seven, in 205 languages and scripts.

Citation: Adelani et al. 2024, SIB-200: A Simple, Inclusive, and Big Evaluation Dataset for Topic Classification in 200+
    Languages and Dialects, https://arxiv.org/abs/2309.07445
Licence: CC BY-SA 4.0 (the sentences are those of FLORES-200; the authors' repository is under Apache-2.0)
Data: Davlan/sib200 at 38977a667f6fc264d5c26ec57a01e16db040b358 (pinned by several public repositories); or
    spa_Latn/dev.tsv and its like of dadelani/sib-200
An item: {"index_id": 739, "category": "geography", "text": "Las Islas Cook, en Polinesia, Océano Pacífico, constituyen un
    estado insular en asociación voluntaria con Nueva Zelanda."}

A sentence and its translations have the same `id` and stand in the same split. The wording is that of
lm-evaluation-harness's AfroBench (its first), in English for every language.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import langcodes

from adamergex.data.formats import Row
from adamergex.tasks.benchmarks import files
from adamergex.tasks.benchmarks.benchmark import Benchmark, Prompt, label, text

_TOPICS = ("science/technology", "travel", "politics", "sports", "health", "entertainment", "geography")
_FLORES = """
    ace_Arab ace_Latn acm_Arab acq_Arab aeb_Arab afr_Latn ajp_Arab aka_Latn als_Latn amh_Ethi apc_Arab arb_Arab
    arb_Latn ars_Arab ary_Arab arz_Arab asm_Beng ast_Latn awa_Deva ayr_Latn azb_Arab azj_Latn bak_Cyrl bam_Latn
    ban_Latn bel_Cyrl bem_Latn ben_Beng bho_Deva bjn_Arab bjn_Latn bod_Tibt bos_Latn bug_Latn bul_Cyrl cat_Latn
    ceb_Latn ces_Latn cjk_Latn ckb_Arab crh_Latn cym_Latn dan_Latn deu_Latn dik_Latn dyu_Latn dzo_Tibt ell_Grek
    eng_Latn epo_Latn est_Latn eus_Latn ewe_Latn fao_Latn fij_Latn fin_Latn fon_Latn fra_Latn fur_Latn fuv_Latn
    gaz_Latn gla_Latn gle_Latn glg_Latn grn_Latn guj_Gujr hat_Latn hau_Latn heb_Hebr hin_Deva hne_Deva hrv_Latn
    hun_Latn hye_Armn ibo_Latn ilo_Latn ind_Latn isl_Latn ita_Latn jav_Latn jpn_Jpan kab_Latn kac_Latn kam_Latn
    kan_Knda kas_Arab kas_Deva kat_Geor kaz_Cyrl kbp_Latn kea_Latn khk_Cyrl khm_Khmr kik_Latn kin_Latn kir_Cyrl
    kmb_Latn kmr_Latn knc_Arab knc_Latn kon_Latn kor_Hang lao_Laoo lij_Latn lim_Latn lin_Latn lit_Latn lmo_Latn
    ltg_Latn ltz_Latn lua_Latn lug_Latn luo_Latn lus_Latn lvs_Latn mag_Deva mai_Deva mal_Mlym mar_Deva min_Arab
    min_Latn mkd_Cyrl mlt_Latn mni_Beng mos_Latn mri_Latn mya_Mymr nld_Latn nno_Latn nob_Latn npi_Deva nqo_Nkoo
    nso_Latn nus_Latn nya_Latn oci_Latn ory_Orya pag_Latn pan_Guru pap_Latn pbt_Arab pes_Arab plt_Latn pol_Latn
    por_Latn prs_Arab quy_Latn ron_Latn run_Latn rus_Cyrl sag_Latn san_Deva sat_Olck scn_Latn shn_Mymr sin_Sinh
    slk_Latn slv_Latn smo_Latn sna_Latn snd_Arab som_Latn sot_Latn spa_Latn srd_Latn srp_Cyrl ssw_Latn sun_Latn
    swe_Latn swh_Latn szl_Latn tam_Taml taq_Latn taq_Tfng tat_Cyrl tel_Telu tgk_Cyrl tgl_Latn tha_Thai tir_Ethi
    tpi_Latn tsn_Latn tso_Latn tuk_Latn tum_Latn tur_Latn twi_Latn tzm_Tfng uig_Arab ukr_Cyrl umb_Latn urd_Arab
    uzn_Latn vec_Latn vie_Latn war_Latn wol_Latn xho_Latn ydd_Hebr yor_Latn yue_Hant zho_Hans zho_Hant zsm_Latn
    zul_Latn
"""


def _codes(flores: Sequence[str]) -> dict[str, str]:
    """BCP 47 codes of FLORES codes, with a script only where it is not the usual one of a language with several."""
    tags = {code: langcodes.Language.get(langcodes.standardize_tag(code, macro=True)) for code in flores}
    scripts: dict[str | None, set[str | None]] = {}
    for tag in tags.values():
        scripts.setdefault(tag.language, set()).add(tag.maximize().script)
    codes: dict[str, str] = {}
    for code, tag in tags.items():
        plain = langcodes.Language.make(tag.language, territory=tag.territory)
        usual = len(scripts[tag.language]) == 1 or plain.maximize().script == tag.maximize().script
        name = plain.to_tag() if usual else tag.to_tag()
        # Twi and Akan have one code between them.
        codes[code.partition("_")[0] if name in codes else name] = code
    return codes


def _files(folder: Path, split: str, code: str) -> Iterator[Row]:
    return files.table(folder, f"{code}/{split}.tsv", f"data/annotated/{code}/{split}.tsv")


def _columns(rows: Iterator[Row], split: str, language: str) -> Iterator[Row]:
    for location, row in rows:
        topic = label(row, "category", location, _TOPICS)
        yield location, {"id": str(row.get("index_id")), "text": text(row, "text", location), "category": topic}


BENCHMARK = Benchmark(
    name="sib200",
    title="SIB-200",
    citation="Adelani et al. 2024, https://arxiv.org/abs/2309.07445",
    licence="CC BY-SA 4.0",
    kind="choice",
    codes=_codes(_FLORES.split()),
    splits={"train": "train", "dev": "validation", "test": "test"},
    answer="category",
    learned="category",
    prompts={
        "en": Prompt(
            "Given the categories science/technology, travel, politics, sports, health, entertainment, or geography; "
            "what category does the text: '{text}' belong to:",
            {topic: topic for topic in _TOPICS},
        )
    },
    dataset="Davlan/sib200",
    revision="38977a667f6fc264d5c26ec57a01e16db040b358",
    config="{code}",
    files=_files,
    columns=_columns,
    training="sib200",
)
