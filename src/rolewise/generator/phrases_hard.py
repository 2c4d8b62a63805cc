"""The hard split's stock sentences: a small phrase grammar instead of a bank, so that hardly any sentence recurs.

`<name>` stands for an alternative of the lexicon. In the other splits a stock phrase recurs, and a token's rarity alone
tells it from a value. Here sentences are paraphrased one by one and made of rare words.
"""

from rolewise.generator.phrases import PhraseBank

HARD_BANK = PhraseBank(
    intros=(
        "Serve visitors by means of these instruments:",
        "On duty today; instruments within reach:",
        "Instruments on this bench:",
    ),
    asks=(
        "<^wish>, {request}.",
        "<greeting>, {request}, <wish>.",
        "Would somebody {request}, <wish>?",
        "It would help us to {request}, <wish>.",
        "<greeting>! Our wish is to {request}.",
        "<greeting>! May we ask you to {request}, <wish>?",
    ),
    also=(
        "<greeting>! First {request}, <wish>. Next, {second}.",
        "<^wish>, {request}; besides that, {second}.",
        "Would somebody {request}, <wish>, then {second}?",
    ),
    same_again=(
        "<greeting>! First {request}, <wish>. Then repeat it all for {other}.",
        "<^wish>, {request}; another one likewise, but for {other}.",
    ),
    sums=(
        "<greeting>, how much is {a} plus {b}, <wish>?",
        "<greeting>! A crate holds {a} melons, another {b}. How many altogether, <wish>?",
    ),
    recalls=(
        "<greeting>, {person} parked in bay {code}; repeat that bay, <wish>.",
        "<greeting>! Our cloakroom gave {person} token {code}. Which token was it, <wish>?",
    ),
    openers=(
        "<^adverb>, as <likeness>, I <ponder> <matter>.",
        "<^mood>, I <ponder> <matter> <adverb>.",
        "While <scene>, I <adverb> <ponder> <matter>.",
        "<^scene>; meanwhile I <ponder> <matter>.",
        "Time to <ponder> <matter>, <mood>.",
        "Let me <adverb> <ponder> <matter>, much as <likeness>.",
        "<^likeness>; likewise, we <ponder> <matter>.",
        "<^aside>, <aside>, yet duty calls: <ponder> <matter>.",
        "Where <likeness>, others <ponder> <matter> <adverb>.",
        "Pausing <spot>, I <ponder> <matter>, <mood>.",
    ),
    goals=(
        "<^mood>, I aim to {request}.",
        "<^adverb> restated: {request}.",
    ),
    choices=(
        "<^adverb> judged, {tool} <suits>.",
        "<^mood>, I <pick> {tool} <spot>.",
        "Just as <likeness>, I <adverb> <pick> {tool}.",
        "<^likeness>; desks like ours <pick> {tool}.",
        "While <scene>, {tool} <suits>.",
        "Why not <adverb> <pick> {tool}, <mood>?",
    ),
    rejections=(
        "<^adverb> I <dismiss> {other}.",
        "<^mood>, let us <dismiss> {other} <adverb>.",
        "Unlike when <likeness>, we <dismiss> {other}.",
        "Today we <adverb> <dismiss> {other}, <mood>.",
    ),
    nexts=(
        "Afterwards, <mood>, I <pick> {tool}.",
        "<^scene>; subsequently {tool} <suits>.",
        "Further, as <likeness>, we <adverb> <pick> {tool}.",
    ),
    fields=(
        "<^adverb> I <place> {value} <under> {key}.",
        "<^mood>, we <place> {value} <under> {key} <spot>.",
        "As <likeness>, I <place> {value} <under> {key}.",
        "<^under> {key} belongs {value}, <adverb> checked.",
        "While <scene>, {key} <adverb> takes {value}.",
        "<^place> {value} <under> {key}, <mood>.",
    ),
    values=(
        "<^adverb> I <place> {value}.",
        "<^mood>, we <ponder> {value} <spot>.",
        "As <likeness>, I <adverb> <place> {value}.",
        "<^scene>, but {value} counts.",
        "Never mind that <scene>; {value} counts.",
    ),
    mappings=(
        "<^adverb> put, {given} signifies {value}.",
        "<^mood>, I render {given} as {value}.",
        "While <scene>, {given} amounts to {value}.",
        "<^likeness>; similarly {given} yields {value}.",
    ),
    workings=(
        "<^adverb> reckoned, {working}.",
        "<^mood>, I tally {working}.",
        "While <scene>, {working}.",
        "As surely as <likeness>, {working}.",
    ),
    closers=(
        "<^mood>, <parcel> <departs> <spot>.",
        "<^ready>, so <parcel> <departs>.",
        "<^adverb>, as <likeness>, <parcel> <departs>.",
        "<^scene>; <ready>.",
        "Since <ready>, <parcel> <adverb> <departs>.",
        "Once <scene>, <parcel> <departs>.",
        "<^ready>, <adverb> speaking, while <scene>.",
        "<^parcel> <departs>, <mood>.",
    ),
    no_tool=(
        "<^mood>, I respond unaided <spot>.",
        "Instruments rest while <scene>; <ready>.",
        "<^adverb>, as <likeness>, I respond alone.",
    ),
    after_result=(
        "<^adverb>, <machine> <replies>.",
        "<^machine> <replies> while <scene>.",
        "<^mood>, I hear: <machine> <replies>.",
        "As <likeness>, <machine> <adverb> <replies>.",
    ),
    answers=(
        "<^adverb> transcribed: {result}.",
        "<^mood>, I offer {result}.",
        "While <scene>, <machine> <replies>: {result}.",
        "{result}, <adverb> yours, <wish>.",
        "<^machine> <adverb> <replies>: {result}.",
    ),
)
