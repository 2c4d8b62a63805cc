"""The words of which the hard split's stock sentences are made.

The lists are long, so that much of the boilerplate is as rare as an open value is in the other splits; but their first
entries are drawn more often, as in a language, so that boilerplate has every frequency that values have. No entry holds
a word that the split uses as a value, tool, key or name: its first mention in a call would then count as a copy of the
stock phrase.
"""


def _listed(text: str) -> tuple[str, ...]:
    """Return the entries of a text that separates them by slashes or line breaks."""
    return tuple(entry.strip() for entry in text.strip().replace("\n", "/").split("/") if entry.strip())


def _by_rank(entries: tuple[str, ...]) -> tuple[str, ...]:
    """Return the entries, the first ones several times: shares fall as 1 / rank until the tail, which is even."""
    top = len(entries) // 4
    return tuple(entry for rank, entry in enumerate(entries, 1) for _ in range(max(1, top // rank)))


_TRADES = """
bakers: weigh flour / glaze buns / knead dough
potters: wedge clay / trim rims / stack kilns
cobblers: stitch soles / wax laces / hammer heels
tailors: chalk hems / baste lapels / press pleats
sailors: coil ropes / swab decks / furl canvas
beekeepers: smoke hives / scrape combs / strain honey
falconers: hood hawks / mend jesses / whirl lures
fishmongers: gut mackerel / crush ice / fillet trout
glaziers: score panes / putty sashes / temper glass
masons: dress granite / mix mortar / square ashlar
weavers: throw shuttles / thread looms / card wool
farriers: rasp hooves / clinch nails / bend horseshoes
gardeners: prune roses / mulch borders / stake peonies
librarians: shelve atlases / stamp novels / mend spines
chemists: titrate acids / rinse flasks / distil ether
pilots: tap altimeters / lower flaps / plot headings
jewellers: polish opals / solder clasps / grade rubies
carpenters: plane oak / dovetail drawers / sand banisters
plumbers: flush boilers / bleed radiators / solder elbows
barbers: strop razors / lather chins / snip fringes
florists: bunch tulips / wire lilies / snip thorns
brewers: mash barley / skim froth / tap casks
vintners: tread grapes / rack barrels / decant claret
cheesemakers: cut curds / salt rinds / press whey
shepherds: shear fleeces / count lambs / whistle collies
foresters: fell larches / thin saplings / blaze trunks
miners: prop tunnels / haul coal / rinse quartz
surveyors: plumb walls / pace meadows / peg boundaries
archivists: unroll vellum / dust folders / mend parchment
conductors: tap lecterns / cue bassoons / hush cellos
pianists: rehearse fugues / flex fingers / shun metronomes
drummers: tighten snares / soften mallets / tune timpani
chefs: chop shallots / reduce gravy / whisk custard
butchers: trim brisket / grind pork / truss pheasants
waiters: fold napkins / polish goblets / balance trays
porters: hoist trunks / wheel crates / stack luggage
postmen: sort envelopes / bundle magazines / dodge terriers
clerks: sharpen pencils / blot signatures / rule columns
judges: bang gavels / adjourn trials / quote statutes
nurses: roll bandages / warm blankets / chart fevers
dentists: polish molars / fit braces / scrape plaque
opticians: grind lenses / bend frames / dim lamps
astronomers: chase comets / align mirrors / map nebulae
geologists: crack geodes / core glaciers / sift gravel
botanists: press ferns / sketch mosses / catalogue orchids
painters: prime plaster / rinse brushes / stretch linen
sculptors: chip marble / cast bronze / model torsos
printers: ink rollers / proof headlines / bind pamphlets
bookbinders: glue boards / gild edges / sew folios
locksmiths: copy keys / pick padlocks / oil bolts
clockmakers: wind mainsprings / oil pinions / hang pendulums
blacksmiths: stoke forges / quench blades / twist tongs
thatchers: comb reeds / bundle hazel / ridge cottages
divers: rinse masks / wax zippers / chart reefs
climbers: clip carabiners / chalk palms / belay partners
cyclists: pump tyres / grease chains / patch tubes
rowers: feather oars / bail dinghies / oil rowlocks
fencers: salute rivals / parry lunges / tape foils
archers: string bows / fletch arrows / brace longbows
jockeys: saddle mares / buckle girths / pat geldings
jugglers: toss clubs / spin plates / drop torches
magicians: palm coins / vanish doves / shuffle aces
puppeteers: tug strings / carve marionettes / hang curtains
actors: learn monologues / powder wigs / fluff cues
dancers: stretch hamstrings / lace slippers / rub rosin
teachers: correct essays / wipe blackboards / drill vowels
ferrymen: pole barges / moor punts / collect fares
stokers: shovel anthracite / rake embers / feed furnaces
roofers: nail slates / seal gutters / scale chimneys
shipwrights: caulk hulls / steam planks / shape keels
lacemakers: wind bobbins / prick patterns / starch collars
basketmakers: soak willow / split cane / plait handles
candlemakers: dip wicks / melt tallow / scent wax
papermakers: pulp rags / dry sheets / couch fibres
upholsterers: tack velvet / stuff cushions / web armchairs
cartographers: shade contours / tint oceans / ink coastlines
stonecutters: split slate / bevel lintels / carve gargoyles
perfumers: blend musk / sniff bergamot / cork phials
luthiers: carve scrolls / bend ribs / varnish violas
millers: sack bran / dress millstones / sieve semolina
tanners: scrape hides / soak leather / brush suede
coopers: char staves / tighten hoops / plug bungholes
sweeps: brush flues / bag soot / climb rafters
lighthouse keepers: trim wicks / wipe prisms / log gales
zookeepers: weigh penguins / hose elephants / peel bananas
trappers: skin rabbits / mend snowshoes / cure pelts
oarsmen: bend ash / blister thumbs / chase eddies
dyers: steep indigo / wring yarn / boil madder
farmhands: pitch hay / muck stables / churn butter
grocers: stack tins / polish apples / weigh lentils
"""

_SCENES = tuple(
    f"{trade.strip()} {act}"
    for trade, _, acts in (entry.partition(":") for entry in _TRADES.strip().splitlines())
    for act in _listed(acts)
)

_ADJECTIVES = _listed("""
patient / old / careful / seasoned / quiet / cheerful / drowsy / nimble / stubborn / thrifty / weathered / fussy
sturdy / shrewd / humble / bold / diligent / tireless / solemn / meticulous / bashful / jovial / stern / wiry
grizzled / veteran / rural / coastal / alpine / Welsh / Flemish / Danish / retired / restless / tidy / canny / hardy
plucky / unhurried / methodical / courteous / sleepy / modest / earnest / rustic / provincial / frugal / hearty
freckled / bearded / barefoot / pensive / sober / punctual / wandering / whistling / devoted / stoic / Basque / Norse
""")

_OCCASIONS = _listed("""
before dawn / after supper / at dusk / by candlelight / in drizzle / on Sundays / near Bergen / all winter
beneath awnings / behind hedges / under skylights / beside canals / along wharves / during thunderstorms
throughout Lent / between showers / amid sawdust / despite fog / outside Lisbon / every Tuesday / past midnight
around Michaelmas / without gloves / within earshot / below stairs / above stables / opposite bakeries / inside sheds
since boyhood / until sunset / over breakfast / against deadlines / among friends / across Flanders / beyond Tromso
for pennies / with pride / through blizzards / towards evening / upon request / off Sicily / round bonfires
once weekly / most Fridays / each autumn / twice nightly / downstairs / outdoors / uphill / overnight / abroad
indoors / ashore / nearby / upstairs / seasonally / anew / barehanded / unpaid
""")

_SPOTS = _listed("""
at once / by lamplight / without delay / with pleasure / on paper / in pencil / beforehand / right here / in earnest
for clarity / at length / by hand / in silence / with conviction / on tiptoe / from memory / without regret / in ink
under oath / by daylight / off duty / with gusto / upon reflection / over tea / between sips / at this desk / instantly
this minute / forthwith / straight away / without fanfare / in confidence / for good measure / with both hands / unasked
per protocol / by custom / in triplicate / amid yawns / despite hiccups / seated / standing / indoors / upstairs
""")

_ADVERBS = _listed("""
calmly / slowly / gladly / briskly / quietly / neatly / gingerly / patiently / warily / soberly / deftly / promptly
duly / eagerly / smoothly / gravely / tenderly / steadily / politely / keenly / freely / wisely / fondly / cautiously
attentively / soundly / silently / serenely / thoroughly / lightly / firmly / modestly / cheerfully / dutifully
faithfully / tactfully / leisurely / unhurriedly / discreetly / diligently / humbly / nimbly / merrily / doggedly
stoically / methodically / painstakingly / reverently / sedately / studiously / sparingly / gamely / soundlessly
graciously / placidly / drowsily / prudently / sensibly / crisply / fluently / candidly / tidily / ably / evenly
""")

_PONDER = _listed("""
ponder / weigh / study / reread / parse / inspect / survey / examine / digest / absorb / review / dissect / unpick
size up / pore over / mull over / sift / scan / trace / probe / untangle / decode / appraise / skim / gauge / unfold
browse / scrutinise / contemplate / revisit / unravel / chew over / puzzle out / take in / look over / go through
""")

_MATTER = _listed("""
this wish / that errand / such wording / every clause / each syllable / these sentences / this memo / that plea
this petition / such phrasing / that message / this inquiry / the brief / today's assignment / these particulars
this chore / that commission / the question / this appeal / the instructions / these remarks / that paragraph
this proposal / the situation / such demands / this favour / that mandate / these hints / the circumstances / the job
this dispatch / the puzzle / these scribbles / that telegram / this dictation / such prose
""")

_MOODS = _listed("""
lamp trimmed / sleeves rolled / kettle humming / coat buttoned / spectacles wiped / inkwell filled / shutters open
teapot warming / collar loosened / blotter ready / hat hung / curtains drawn / chair oiled / boots brushed
radio muted / biscuits finished / scarf knotted / matches handy / notebook open / quill cut / shoulders relaxed
desk cleared / windows ajar / cat asleep / fire crackling / clock wound / mug refilled / pipe unlit / dog walked
phone silenced / dictionary near / slippers warm / brow furrowed / eyes rested / breath drawn / nerves settled
coffee brewed / stove lit / envelope slit / whiskers combed / monocle fixed / gloves folded / umbrella shaken
porridge eaten / ruler found / apron tied / binoculars cased / satchel emptied / cuffs starched / candle snuffed
""")

_ASIDES = _listed("""
kettles hum / gulls wheel / floorboards creak / church bells toll / crickets chirp / pigeons coo / taxis honk
snowflakes drift / moths circle / shutters rattle / frogs croak / trams screech / hinges squeak / poplars sway
owls hoot / fountains splash / geese migrate / lanterns flicker / kites soar / tides ebb / toast burns / pines whisper
magpies squabble / buses idle / puddles freeze / swallows return / choirs rehearse / hedgehogs shuffle / bonfires smoke
chestnuts ripen / donkeys bray / icicles drip / otters play / sparrows bicker / trolleys clatter / violins weep
wasps hover / turbines whirr / ponies graze / raindrops drum / squirrels scold / herons wade / cockerels crow
accordions wheeze / lilacs bloom / foghorns moan / ferries dock / cranes swing / bagpipes drone / marmots doze
""")

_PICK = _listed("""
choose / select / prefer / favour / nominate / summon / engage / appoint / enlist / elect / recruit / deploy / invoke
fetch / hail / rouse / beckon / tap / employ / trust / back / consult / wake / hire / call on / rely on / settle on
turn to / reach for / opt for / plump for / vouch for
""")

_SUITS = _listed("""
fits perfectly / answers nicely / suits admirably / deserves trust / promises success / seems ideal / wins easily
matches exactly / stands ready / shows merit / earns applause / beats guesswork / saves effort / covers everything
looks tailor-made / qualifies / serves splendidly / prevails / excels / applies / belongs here / rings right
handles precisely this / carries weight / springs forward / heads my list / inspires confidence
""")

_DISMISS = _listed("""
dismiss / decline / skip / shelve / forgo / bypass / spare / excuse / discard / ignore / waive / spurn / omit / shun
rule out / set aside / pass over / turn down / wave off / steer clear of / refrain from / do without
""")

_PLACE = _listed("""
write / enter / note / jot / pencil / record / inscribe / insert / tuck / file / lodge / plant / post / pin / nail
stitch / deposit / register / etch / fasten / engrave / slide / squeeze / settle / copy / type / spell / chalk / thread
""")

_UNDER = _listed(
    "under / beside / against / beneath / alongside / near / behind / inside / next to / opposite / within"
)

_DEPART = _listed("""
departs / sails / leaves port / takes flight / rolls forward / goes out / sets forth / travels onward / gets posted
finds wings / crosses over / slips away / hits the road / clears customs / reaches the counter / may proceed
""")

_PARCEL = _listed("""
my submission / this paperwork / the finished slip / our envoy / this bundle / the courier / my handiwork / the cargo
this draft / the completed sheet / our messenger / my verdict / the outcome / this bulletin / the paper boat
""")

_REPLY = _listed("""
replies / reports / confirms / announces / declares / responds / signals back / returns an answer / sends word
keeps its promise / finishes / delivers / obliges / nods / whispers back
""")

_MACHINE = _listed("""
machinery / clockwork / apparatus / the workshop / headquarters / the counter / the back office / the crew
the mechanism / the cellar / mission control / the registry / the boiler room / the engine house
""")

_READY = _listed("""
nothing is lacking / all boxes hold ink / no gap remains / preparations end / everything adds up / ink dries
doubts fade / homework pays off / details agree / matters stand settled / loose ends vanish / pieces interlock
questions cease / gaps close / facts align / the puzzle closes / hesitation ends / certainty grows
""")

_WISH = _listed("""
please / kindly / today / right away / if possible / without fuss / as usual / soon / at your leisure / for my aunt
before lunch / thank you / many thanks / cheers / when convenient / for our club / for the neighbours / once more
""")

_GREETING = _listed("""
Hello / Good evening / Greetings / Hi there / Excuse me / Dear helper / Good day / Howdy / Pardon me / Ahoy / Hey
Dear desk / Good afternoon / Listen / Quick favour
""")

_FILLERS = _listed("""
now / then / still / also / again / once more / just / first / simply / merely / thus / always / rather / at last
therefore / indeed / already / even / quickly / next / finally / only / surely
""")

_AS = _listed("as / just as / much as / exactly as / rather as / the way / in the same way as")

_WHILE = _listed(
    "while / whilst / all the while that / even as / at a time when / now that / though / since / as long as"
)

HARD_LEXICON: dict[str, tuple[str, ...]] = {
    "scene": ("<likeness>", "<likeness>", "<likeness>", "<aside>", "<aside>"),
    "likeness": ("<adjective> <trade>", "<trade> <occasion>", "<adjective> <trade> <occasion>"),
    "trade": _SCENES,
    "adjective": _by_rank(_ADJECTIVES),
    "occasion": _by_rank(_OCCASIONS),
    "spot": _by_rank(_SPOTS),
    "adverb": _by_rank(_ADVERBS),
    "ponder": _by_rank(_PONDER),
    "matter": _by_rank(_MATTER),
    "mood": _by_rank(_MOODS),
    "aside": _ASIDES,
    "pick": _by_rank(_PICK),
    "suits": _by_rank(_SUITS),
    "dismiss": _by_rank(_DISMISS),
    "place": _by_rank(_PLACE),
    "under": _by_rank(_UNDER),
    "departs": _by_rank(_DEPART),
    "parcel": _by_rank(_PARCEL),
    "replies": _by_rank(_REPLY),
    "machine": _by_rank(_MACHINE),
    "ready": _by_rank(_READY),
    "filler": _FILLERS,
    "as": _AS,
    "while": _WHILE,
    "wish": _WISH,
    "greeting": _GREETING,
}
"""Name → alternatives; a name in angle brackets stands for one of them, `<^name>` for one with a capital letter."""
