// Acts after a method of the front end's that may be there or not; it answers as before.

export function after(object, name, act) {
  const before = object[name];
  object[name] = function (...given) {
    const answer = before?.apply(this, given);
    act(...given);
    return answer;
  };
}
