// Puts together what the server sends in parts, by the feed or by gradio. Every message says which run it is about and from
// which item on; what is known already is skipped, and where something is missing the feed is opened anew. A run that
// goes on from the one on the page says in `kept` ([run, items]) how much of that stays.
//
//   show(message, skip, fresh, kept): draws the items of a message but the first `skip`; `fresh` = of another run or
//     view, of which the first `kept` items are those that are there
const openChannel = (show, read = (message) => message) => {
  let newest = -1, run = -1, view = -1, have = 0, kept = 0, fresh = true, over = false;

  const accept = (data) => {
    const message = read(JSON.parse(data)), now = message.view ?? 0;
    if (message.n < newest || (message.n === run && now < view)) return;
    newest = message.n;
    const ends = ['done', 'stopped', 'failed'].includes(message.state), news = message.n !== run || !over;
    if (message.n !== run && message.count === 0 && !message.kept) {   // nothing of it yet
      show(message, 0, true, 0);
    } else {
      if (message.n !== run || now !== view) {
        const [base, items] = message.kept ?? [null, 0];
        have = kept = base === run && now === view && items <= have && items === message.from ? items : 0;
        run = message.n; view = now; fresh = true;
      }
      over = false;
      if (message.restart && message.from + message.count >= have) have = 0;   // else an old one, shown again
      if (message.from > have) return document.dispatchEvent(new CustomEvent('citer-missed'));
      const skip = have - message.from;
      show(message, Math.min(skip, message.count), fresh, kept);
      if (message.count > 0 || have > 0) fresh = false;
      have = Math.max(have, message.from + message.count);
      over = ends;
    }
    if (ends && news) trigger('ended');
  };

  document.addEventListener('citer-news', ({ detail }) => {
    if (element.isConnected && detail.panel === props.panel) accept(detail.data);
  });
  document.addEventListener('citer-have', ({ detail }) => {
    if (element.isConnected && run >= 0) detail[props.panel] = `${run}.${have}.${Number(over)}`;
  });
  const receive = () => { if (props.value) accept(props.value); };
  watch('value', receive);

  // What is on the page is none of this any more, so that nothing of it can be kept.
  const forget = () => { run = -1; have = 0; over = false; };

  return { receive, forget, get have() { return have; } };
};
