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
        "<^adverb> I <filler> <ponder> <matter> <as> <likeness>.",
        "<^mood>, I <filler> <ponder> <matter> <adverb>.",
        "I <adverb> <ponder> <matter> <while> <scene>.",
        "<^scene>; meanwhile I <filler> <ponder> <matter>.",
        "Time to <ponder> <matter> <while> <scene>.",
        "Let me <adverb> <ponder> <matter> <as> <likeness>.",
        "<^likeness>; likewise, we <filler> <ponder> <matter>.",
        "<^aside>, <aside>, yet duty calls: <ponder> <matter>.",
        "Where <likeness>, others <ponder> <matter> <adverb>.",
        "Pausing <spot>, I <filler> <ponder> <matter>, <mood>.",
    ),
    goals=(
        "<^mood>, I aim to {request}.",
        "<^adverb> restated in short: {request}.",
        "<^as> <likeness>, so must I {request}.",
        "<^while> <scene>, somebody must {request}.",
        "<^likeness>; my lot is to {request}.",
    ),
    choices=(
        "<^adverb> judged, {tool} <filler> <suits>.",
        "<^mood>, I <filler> <pick> {tool} <spot>.",
        "I <adverb> <pick> {tool} <as> <likeness>.",
        "<^likeness>; desks like ours <pick> {tool}.",
        "I see how {tool} <filler> <suits> <while> <scene>.",
        "Why not <adverb> <pick> {tool}, <mood>?",
    ),
    rejections=(
        "<^adverb> I <filler> <dismiss> {other}.",
        "Let us <dismiss> {other} <adverb> <while> <scene>.",
        "Unlike when <likeness>, we <filler> <dismiss> {other}.",
        "Today we <adverb> <dismiss> {other} <spot>.",
    ),
    nexts=(
        "Afterwards, <mood>, I <filler> <pick> {tool}.",
        "<^scene>; subsequently {tool} <filler> <suits>.",
        "Further we <adverb> <pick> {tool} <as> <likeness>.",
    ),
    fields=(
        "<^adverb> I <filler> <place> {value} <under> {key}.",
        "<^mood>, we <filler> <place> {value} <under> {key} <spot>.",
        "I <filler> <place> {value} <under> {key} <as> <likeness>.",
        "<^under> {key} <filler> belongs {value} <while> <scene>.",
        "The <adverb> chosen {key} takes {value} <while> <scene>.",
        "<^place> {value} <under> {key}, <mood>.",
    ),
    values=(
        "<^adverb> I <filler> <place> {value}.",
        "<^mood>, we <filler> <ponder> {value} <spot>.",
        "I <adverb> <place> {value} <as> <likeness>.",
        "<^scene>, but {value} counts.",
        "Never mind that <scene>; {value} counts.",
    ),
    mappings=(
        "<^adverb> put, {given} signifies {value}.",
        "<^mood>, I render {given} as {value}.",
        "Here {given} amounts to {value} <while> <scene>.",
        "<^likeness>; similarly {given} yields {value}.",
    ),
    workings=(
        "<^adverb> reckoned, {working}.",
        "<^mood>, I tally {working}.",
        "<^while> <scene>, {working}.",
        "As surely as <likeness>, {working}.",
    ),
    closers=(
        "<^mood>, <parcel> <filler> <departs> <spot>.",
        "<^ready> and <parcel> <filler> <departs>.",
        "<^adverb> <parcel> <filler> <departs> <as> <likeness>.",
        "<^scene>; <ready>.",
        "<^parcel> <adverb> <departs> since <ready>.",
        "<^parcel> <filler> <departs> once <scene>.",
        "<^adverb> speaking <ready> <while> <scene>.",
        "<^parcel> <filler> <departs>, <mood>.",
    ),
    no_tool=(
        "<^mood>, I respond unaided <spot>.",
        "Instruments rest <while> <scene>; <ready>.",
        "<^adverb> I respond alone <as> <likeness>.",
    ),
    after_result=(
        "<^adverb> <machine> <replies> <spot>.",
        "<^machine> <filler> <replies> <while> <scene>.",
        "<^mood>, I hear: <machine> <filler> <replies>.",
        "<^machine> <adverb> <replies> <as> <likeness>.",
    ),
    answers=(
        "<^adverb> transcribed: {result}.",
        "<^mood>, I offer {result}.",
        "<^while> <scene>, <machine> <filler> <replies>: {result}.",
        "{result}, <adverb> yours, <wish>.",
        "<^machine> <adverb> <replies>: {result}.",
    ),
)
