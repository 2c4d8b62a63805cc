"""The shape of a phrase bank, and the training split's stock phrases.

Many phrases are deliberately odd: a base model finds them surprising although they recur, so a low loss alone does not
tell boilerplate from reasoning. No phrase holds a digit or the name of an argument, which would blur the true roles.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class PhraseBank:
    """Stock phrases of one split. Names in braces are filled in; only what is filled in can be reasoning."""

    intros: tuple[str, ...]
    """System prompt: the line above the tool list."""
    asks: tuple[str, ...]
    """User: around one `{request}`, an infinitive clause."""
    also: tuple[str, ...]
    """User: joins `{request}` and `{second}`."""
    same_again: tuple[str, ...]
    """User: asks the `{request}` again for `{other}`."""
    sums: tuple[str, ...]
    """User: a question about `{a}` and `{b}` that needs no tool."""
    recalls: tuple[str, ...]
    """User: tells `{person}`'s `{code}` and asks it back; needs no tool."""
    openers: tuple[str, ...]
    """Thought: first sentence."""
    goals: tuple[str, ...]
    """Thought: first sentence that quotes `{request}` from the query."""
    choices: tuple[str, ...]
    """Thought: picks `{tool}`."""
    rejections: tuple[str, ...]
    """Thought: rules `{other}` out."""
    nexts: tuple[str, ...]
    """Thought: turns to the second call."""
    fields: tuple[str, ...]
    """Thought: `{key}` gets `{value}`."""
    values: tuple[str, ...]
    """Thought: mentions `{value}` alone."""
    mappings: tuple[str, ...]
    """Thought: the wording `{given}` stands for `{value}`."""
    workings: tuple[str, ...]
    """Thought: arithmetic, `{working}`."""
    closers: tuple[str, ...]
    """Thought: last sentence."""
    no_tool: tuple[str, ...]
    """Thought: nothing to call."""
    after_result: tuple[str, ...]
    """Thought: after a tool's answer."""
    answers: tuple[str, ...]
    """Answer: gives `{result}`."""


TRAIN_BANK = PhraseBank(
    intros=(
        "You are a helpful assistant. Tools:",
        "These tools are at your disposal:",
        "Help the user with the tools below.",
        "Tools you may call:",
        "You work at a service desk and can use:",
    ),
    asks=(
        "Please {request}.",
        "Could you {request}?",
        "Can you {request} for me?",
        "I need you to {request}.",
        "Hi! Would you {request}?",
        "Hello, I want to {request}.",
        "Kindly {request}, thank you.",
        "Quick favour: {request}.",
        "My boss told me to {request}. Can you do that?",
        "I was hoping you could {request}.",
        "Let's {request}.",
        "Hey, {request}, will you?",
        "It would be great if you could {request}.",
        "Before I forget: {request}, please.",
        "I'd like to {request}.",
        "Time to {request}.",
        "Do me a favour and {request}.",
        "We have to {request} today.",
        "Would it be possible to {request}?",
        "Next on my list is to {request}.",
    ),
    also=(
        "Please {request}, and then {second}.",
        "I need you to {request}. Also, {second}.",
        "Could you {request} and {second}?",
        "First {request}; after that {second}.",
        "Would you {request}? While you are at it, {second}.",
        "Let's {request}, plus {second}.",
    ),
    same_again=(
        "Please {request}, and do the same for {other}.",
        "Could you {request}? Then the same again with {other}.",
        "I'd like to {request}, and likewise for {other}.",
        "Hi, {request}. Repeat that for {other}, please.",
    ),
    sums=(
        "What do {a} and {b} add up to?",
        "How much is {a} plus {b}?",
        "I had {a} stamps and bought {b} more. How many are there now?",
        "Add {b} to {a} for me.",
        "There are {a} chairs inside and {b} outside; how many altogether?",
    ),
    recalls=(
        "My colleague {person} keeps the key marked {code}. Which key was it again?",
        "{person} sits next to door {code}. Just repeat that door back to me.",
        "Say back the number on the badge of {person}: {code}.",
        "If the locker of {person} is {code}, which locker do I open to reach it?",
    ),
    openers=(
        "Let me think about this.",
        "Right, pencils out.",
        "Kettle on, sleeves up, here we go.",
        "The user has a clear wish.",
        "I should look at what the user is asking for.",
        "Okay, so what do we have here?",
        "Fresh request on the counter.",
        "Let me see which of the tools fits.",
        "Bell rings, clerk wakes up.",
        "First I check the tools that I have.",
        "A customer at the window, hat in hand.",
        "To answer this, outside help is required.",
        "Reading the message twice before acting.",
        "Nothing tricky hides between these lines.",
        "Old habits first: read, sort, act.",
        "The wish is plain enough.",
        "Brass drawer open, cards on the desk.",
        "Let me break the request down.",
        "Hmm, this smells like honest paperwork.",
        "I want to get this right in one go.",
        "Another slip lands in the tray.",
        "What is wanted here can be looked up.",
        "Good, the user left no gaps.",
        "Lamp lit, ledger open.",
        "I go through the request step by step.",
        "Sorting this onto the proper shelf.",
        "All I need should be in the message.",
        "Captain's log, one more errand.",
        "Let me match the request with a tool.",
        "Ink is dry, stamp is ready.",
        "So, the usual drill.",
        "This calls for a steady hand.",
    ),
    goals=(
        "The user wants to {request}.",
        "I am asked to {request}.",
        "So I have to {request}.",
        "The wish, in short: {request}.",
        "On the slip it says to {request}.",
        "We are going to {request}.",
        "Someone rang the bell to {request}.",
        "The errand is to {request}.",
        "They would like me to {request}.",
        "Goal of the day: {request}.",
        "I must {request}.",
        "Understood, {request}.",
    ),
    choices=(
        "I will use {tool} for this.",
        "The best fit is {tool}.",
        "The tool to call is {tool}.",
        "So {tool} is the one.",
        "Calling {tool} makes sense.",
        "My finger stops at {tool} on the wall chart.",
        "That is a job for {tool}.",
        "Out of the toolbox comes {tool}.",
        "I can do this with `{tool}`.",
        "The description of {tool} matches.",
        "Only {tool} does what is asked.",
        "Pulling the lever labelled {tool}.",
        "I pick {tool}, since it covers the request.",
        "It seems that {tool} can handle it.",
        "Whistle blows, {tool} steps forward.",
        "For such errands the house keeps `{tool}`.",
        "Here {tool} should be called.",
        "Going down the list, I arrive at {tool}.",
        "The switchboard says {tool}.",
        "Let me call {tool}.",
        "The bell cord of {tool} gets a tug.",
        "We want {tool}, no doubt about it.",
        "Since the wording fits, {tool} it is.",
        "I need {tool}.",
    ),
    rejections=(
        "I leave {other} alone.",
        "It is not {other} that we want.",
        "For a moment {other} looked right, but no.",
        "Surely {other} can stay in its box.",
        "The tool {other} does something else.",
        "Sorry, {other}, not your turn.",
        "I ruled out {other}.",
    ),
    nexts=(
        "Then {tool} takes care of the rest.",
        "After that, {tool} gets called too.",
        "The other half belongs to {tool}.",
        "Second bell, and {tool} answers.",
        "And once more the desk turns to {tool}.",
        "What is left goes to {tool}.",
        "Following up with {tool}.",
    ),
    fields=(
        "The {key} is {value}.",
        "For {key} I take {value}.",
        "I set {key} to {value}.",
        "Under {key} goes {value}.",
        "The user gave {value} as {key}.",
        "Chalk {value} onto the board beside {key}.",
        "As for {key}, that must be {value}.",
        "The slot {key} swallows {value}.",
        "{key}: {value}.",
        "The {key} should be {value}.",
        "Into the pigeonhole {key} I drop {value}.",
        "It says {value}, which is the {key}.",
        "Filling {key} with {value}.",
        "Parameter {key} has to be {value}.",
        "Pin {value} to {key}, gently.",
        "We know the {key}, namely {value}.",
    ),
    values=(
        "I pass on {value}.",
        "The message mentions {value}.",
        "This is about {value}.",
        "Do not lose {value} on the way.",
        "Spelling matters: {value}.",
        "I keep {value} in mind.",
        "Stamped and filed: {value}.",
        "I copy {value} with care.",
        "The user told me {value}.",
        "On the label stands {value}.",
        "One look at {value} settles it.",
        "Here {value} has to go in.",
    ),
    mappings=(
        "When they say {given}, the form wants {value}.",
        "In the books {given} is written {value}.",
        "Here {given} means {value}.",
        "I turn {given} into {value}.",
        "That is {given}, so {value}.",
        "My almanac lists {given} under {value}.",
        "The words {given} stand for {value}.",
        "From {given} I get {value}.",
        "With {given} they mean {value}.",
        "Rubber stamp: {given} becomes {value}.",
    ),
    workings=(
        "Abacus beads click: {working}.",
        "I compute {working}.",
        "The sum is {working}.",
        "On the back of an envelope, {working}.",
        "That gives {working}.",
        "Working it out: {working}.",
        "A quick bit of arithmetic says {working}.",
        "Fingers and toes agree that {working}.",
        "We get {working}.",
        "The maths is easy, {working}.",
    ),
    closers=(
        "Let me do that now.",
        "That should settle it.",
        "Everything needed is there.",
        "Off it goes by pigeon post.",
        "I have all that I need for the call.",
        "Time to make the call.",
        "Ribbon tied, wax sealed.",
        "No further questions are necessary.",
        "Now to write it down in the proper form.",
        "Drawer shut, stamp down, done.",
        "Nothing else is missing.",
        "The form is complete.",
        "Over the counter it slides.",
        "I can go ahead.",
        "Blotting paper, please.",
        "And that wraps it up.",
        "With this the request is covered.",
        "Bolt the hatch and pull away.",
        "Calling it now.",
        "The rest I leave out.",
        "Let us send it.",
        "Tea afterwards, as always.",
        "Here comes the call.",
        "This will give the user what was asked.",
    ),
    no_tool=(
        "None of the tools is needed.",
        "No call required, I can answer this myself.",
        "The toolbox stays shut for once.",
        "This I know without looking anything up.",
        "The tools would not help here.",
        "Answering off the cuff.",
        "All levers stay up.",
    ),
    after_result=(
        "The tool has answered.",
        "Back comes the slip with the outcome.",
        "I can report the result now.",
        "That worked, so I tell the user.",
        "Reply received, seal unbroken.",
        "Now the user gets the answer.",
    ),
    answers=(
        "It is {result}.",
        "The answer is {result}.",
        "Here you go: {result}.",
        "That makes {result}, with compliments of the desk.",
        "You are looking for {result}.",
        "Gladly! I have {result} for you.",
        "Done, and the slip reads {result}.",
        "All sorted, you want {result}. Anything else?",
        "I found {result}. Let me know if there is more to do.",
        "{result}, at your command.",
        "For your records: {result}.",
        "Of course. The outcome is {result}.",
    ),
)
