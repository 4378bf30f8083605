// Puts together what the server sends in parts. A value may be replaced before it was seen, so every message says which
// run it is about and from which item on; what is missing is asked for again, what is known already is skipped.
//
//   resend(message): asks the server for everything from message.from on; resolves to a message or null
//   show(message, skip, fresh): draws the items of a message but the first `skip`; `fresh` = of another run or view
const openChannel = (resend, show) => {
  let run = -1, view = -1, have = 0, fresh = true, asking = false;

  const accept = (message) => {
    const other = message.n !== run || (message.view ?? 0) !== view;
    if (message.n < run || (message.n === run && (message.view ?? 0) < view)) return;
    if (other) { run = message.n; view = message.view ?? 0; have = 0; fresh = true; }
    if (message.restart && message.from + message.count >= have) have = 0;   // else an old one, shown again
    if (message.from > have) return ask(message);
    const skip = have - message.from;
    show(message, Math.min(skip, message.count), fresh);
    if (message.count > 0) fresh = false;
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

  return { accept, get have() { return have; } };
};
