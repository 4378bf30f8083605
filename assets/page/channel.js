// Puts together what the server sends in parts. A value may be replaced before it was seen, so every message says which
// run it is about and from which item on; what is missing is asked for again, what is known already is skipped. A run
// that goes on from the one on the page says in `kept` ([run, items]) how much of that stays.
//
//   resend(message): asks the server for everything from message.from on; resolves to a message or null
//   show(message, skip, fresh, kept): draws the items of a message but the first `skip`; `fresh` = of another run or
//     view, of which the first `kept` items are those that are there
const openChannel = (resend, show) => {
  let newest = -1, run = -1, view = -1, have = 0, kept = 0, fresh = true, asking = false;

  const accept = (message) => {
    const now = message.view ?? 0;
    if (message.n < newest || (message.n === run && now < view)) return;
    newest = message.n;
    if (message.n !== run && message.count === 0 && !message.kept) return show(message, 0, true, 0);   // nothing of it yet
    if (message.n !== run || now !== view) {
      const [base, items] = message.kept ?? [null, 0];
      have = kept = base === run && now === view && items <= have && items === message.from ? items : 0;
      run = message.n; view = now; fresh = true;
    }
    if (message.restart && message.from + message.count >= have) have = 0;   // else an old one, shown again
    if (message.from > have) return ask(message);
    const skip = have - message.from;
    show(message, Math.min(skip, message.count), fresh, kept);
    if (message.count > 0 || have > 0) fresh = false;
    have = Math.max(have, message.from + message.count);
  };

  const ask = async (message) => {
    if (asking) return;
    asking = true;
    try {
      const answer = await resend({ run: message.run, from: have });
      if (answer) accept(JSON.parse(answer));
    } catch (error) {
      console.warn('what was missed could not be had again', error);
    } finally {
      asking = false;
    }
  };

  // What is on the page is none of this any more, so that nothing of it can be kept.
  const forget = () => { run = -1; have = 0; };

  return { accept, forget, get have() { return have; } };
};
