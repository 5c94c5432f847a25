"""What is said on the screenshots: written for them, said by nobody."""

from tests.browser.seeds import Line

ANN, BEN, CLEO = "SPEAKER_00", "SPEAKER_01", "SPEAKER_02"
SPEAKERS = {ANN: "Marta", BEN: "Joseph", CLEO: "Ines"}

MEETING = (
    Line(
        "All right, everybody is here. Let us start with the ferries, they decide about the rest.",
        ANN,
    ),
    Line("The company says yes. Two more boats on Saturday, the last one leaves at midnight.", BEN),
    Line("At midnight? Last year people missed it, and forty of them slept in the boat house.", CLEO),
    Line("They liked it. But yes, we should write the time on every poster, in large figures.", BEN),
    Line("Good. Ines, what about the harbour itself, where can we put the stage?", ANN),
    Line(
        "There are two places. By the crane it is wide enough, but the wind comes from the sea. Behind the "
        "fish hall it is quiet, only then the fishermen need another way to their boats until Sunday.",
        CLEO,
    ),
    Line("I have asked them. They are fine with it if the road is free from four in the morning.", BEN),
    Line("Then behind the fish hall it is. Does anybody disagree?", ANN),
    Line("No. But we need light on the stairs. I will ask the lighthouse, they have the old lamps.", CLEO),
    Line("Lovely. Joseph, the money.", ANN),
    Line(
        "We have eleven thousand from the town and three from the boat builders. The stage is six, the "
        "ferries are four and a half, so there is a little left for the choir.",
        BEN,
    ),
    Line("The choir sings for soup, you know that.", CLEO),
    Line("Then there is a little left for soup.", BEN),
    Line("Wonderful. Next time we talk about what happens if it rains. Thank you all.", ANN),
)

INTERVIEW = (
    Line("How long have you lived out here?", ANN),
    Line("Thirty-one winters. One counts the winters, the summers are short.", BEN),
)

LECTURE = (
    Line("Heute geht es um die Gezeiten, und warum es zwei Fluten am Tag gibt und nicht eine."),
    Line("Der Mond allein erklärt das nämlich noch nicht."),
)
